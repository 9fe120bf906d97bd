"""Files that cannot grow, as on a full disk: `/readyz` fails, commands answer `unavailable`, nothing is lost.

The limit is the kernel's (RLIMIT_FSIZE), set on the running service from outside.
"""

import asyncio
import resource
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.drivers.rawclient import raw
from tests.support.patience import ALL_WITHIN_S, WITHIN_S
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def ready(server: Serving) -> int:
    try:
        with urllib.request.urlopen(f"{server.url}/readyz", timeout=WITHIN_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def limit_files(server: Serving, size_bytes: int) -> None:
    _soft, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


class Found:
    """The answers that the client received, and the log at the end."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[int] = []
        self.ready_when_full = 0
        self.ready_after = 0
        self.log: list[int] = []


async def fill_and_free(server: Serving) -> Found:
    found = Found()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(ALL_WITHIN_S), raw(server.url.replace("http", "ws"), "huahuo.v1") as client:
        await client.authenticate(server.token(1, "root", admin=True), client="c")
        await client.say(action="subscribe", stream="group/ops", id="s")

        async def publish(number: int) -> None:
            await client.say(
                action="publish",
                id=f"p{number}",
                stream="group/ops",
                type="tick",
                number=number,
                pad="x" * 9000,
            )
            while True:
                reply = await client.next()
                if reply.get("id") == f"p{number}":
                    break
            if reply["type"] == "success":
                found.acknowledged.append(number)
            else:
                assert reply["code"] == "unavailable", reply
                found.refused.append(number)

        await publish(0)
        limit_files(server, (server.data / "log.db-wal").stat().st_size + 64 * 1024)
        number = 1
        while len(found.refused) < 3:
            await publish(number)
            number += 1
        found.ready_when_full = await loop.run_in_executor(None, ready, server)
        limit_files(server, resource.RLIM_INFINITY)
        for again in list(found.refused):  # "send it again with the same id"
            await publish(again)
        found.ready_after = await loop.run_in_executor(None, ready, server)
    server.kill()
    await loop.run_in_executor(None, server.start)
    async with asyncio.timeout(WITHIN_S), raw(server.url.replace("http", "ws"), "huahuo.v1") as client:
        await client.authenticate(server.token(1, "root", admin=True), client="c", window=4096)
        await client.say(action="subscribe", stream="group/ops", id="s", after="start")
        await client.until("live", stream="group/ops")

        found.log = [event["number"] for _, event in client.events("group/ops")]
    return found


async def test_a_full_disk_is_said_and_costs_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    # The service cannot write log lines either: they are often on the same disk.
    with serving(tmp_path / "data", stderr=Path("/dev/full"), HUAHUO_MESSAGES_PER_S="0") as server:
        found = await fill_and_free(server)
    assert found.ready_when_full == 503
    assert found.ready_after == 200
    assert found.acknowledged[-3:] == found.refused[:3], (
        "a retry with the same id succeeds once there is room"
    )
    assert sorted(found.log) == sorted(found.acknowledged), "each acknowledged event exactly once"
