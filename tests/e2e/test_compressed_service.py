"""The compressed protocol of the service as a process: with the dictionary that it serves."""

import asyncio
import http.client
from pathlib import Path

import pytest

from huahuo.dictionaries import zstd_dictionaries
from huahuo.eventstore.zstd_frames import Decompressor
from huahuo.transport.client.client import Client
from huahuo.transport.protocol.dialects import dictionary_path
from tests.support.drivers.clients import collect
from tests.support.drivers.command_line import huahuo
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ZSTD = "huahuo.v1.zstd"


def get(port: int, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


CANARY = "canary-password-77"


async def a_users_life(client: RawClient, token: str) -> int:
    """Sign in, add mailboxes with a secret, list them, read everything again; the dictionary's id."""
    result = await client.authenticate(token)
    for n in range(20):
        await client.say(
            action="add_email", id=f"a{n}", email=f"box{n}@example.org", password=CANARY, mail_type="imap"
        )
        await client.until("success", id=f"a{n}")
    await client.say(action="get_all_emails", id="l")
    await client.until("emails_list", id="l")
    await client.say(action="subscribe", id="s", stream="user/7", after="start")
    await client.until("live", stream="user/7", seq=20)
    return int(result["dictionary"]["id"])


async def test_the_service_compresses_with_what_it_serves_and_no_secret_is_in_it(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        shipped = zstd_dictionaries.find_dictionaries(tmp_path).used
        status, headers, body = get(server.port, dictionary_path(shipped.id))
        assert (status, body) == (200, shipped.data)
        assert "immutable" in headers["Cache-Control"]
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert get(server.port, dictionary_path(shipped.id + 1))[0] == 404

        async with raw(server.url.replace("http", "ws"), ZSTD) as client:
            client.unpack = Decompressor(shipped, output_bytes_max=1 << 20).decompress
            assert await a_users_life(client, server.token(7, "eve")) == shipped.id
            assert client.binary >= 3
            assert CANARY not in repr(client.seen)
        metrics = get(server.port, "/metrics")[2].decode()
        before, after = (
            sum(
                float(line.split()[-1])  # of all processes
                for line in metrics.splitlines()
                if line.startswith(f"huahuo_compression_{which}_bytes_total")
            )
            for which in ("before", "after")
        )
        assert 0 < after < before / 2


async def test_a_dictionary_trained_from_the_log_is_used_and_the_old_one_stays_served(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        async with asyncio.timeout(WITHIN_S), Client(server.url, token=server.token(7, "eve")) as client:
            lines = "\n".join(f"box{n}@example.org----{CANARY}" for n in range(300))
            await client.send("import_emails", data=lines, mail_type="imap")
        done = huahuo("dictionary", "train", "--data", str(server.data), "--size", "2048", "--tries", "200")
        assert done.returncode == 0, done.stderr
        (path,) = (server.data / "dictionaries").glob("*.zdict")
        trained = zstd_dictionaries.read_dictionary(path)
        assert f"dictionary {trained.id}: " in done.stdout
        assert b"box1" not in trained.data
        assert b"canary" not in trained.data
    with serving(tmp_path / "data", HUAHUO_DICTIONARY=str(path)) as server:
        for one in (trained, zstd_dictionaries.find_dictionaries(tmp_path).used):
            assert get(server.port, dictionary_path(one.id))[2] == one.data
        async with (
            asyncio.timeout(WITHIN_S),
            Client(server.url, token=server.token(7, "eve")) as client,
            client.events("user/7", "start") as events,
        ):
            assert len(await collect(events, 300)) == 300
