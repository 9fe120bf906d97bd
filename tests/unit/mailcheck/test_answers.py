"""What token endpoints and Graph answer, what it means, and that they prove their names."""

import asyncio
import gzip
import json
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers import faults
from huahuo.mailcheck.servers.graph import WITHIN_S, Requests, with_retries
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.providers import ProviderOptions, Providers, parse_proxy
from huahuo.testing.world import VirtualAmbient, run_virtual, virtual_loop
from tests.support.servers.forward_proxy import forward_proxy
from tests.support.servers.tls import Authority
from tests.support.servers.token_server import CLIENT_ID, GRAPH_SCOPE, TokenServer, token_server
from tests.support.worlds.mail_world import MailWorld, in_real_world


def answer(status: int, fields: Any, **headers: str) -> faults.Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return faults.Answer(status, named, json.dumps(fields).encode())


def test_an_answer_shows_no_token() -> None:
    assert "canary" not in repr(answer(200, {"access_token": "canary"}))


@pytest.mark.parametrize(
    "fault",
    [
        faults.HttpFailed(503, "", passing=True),
        faults.TimedOut("slow"),
        faults.ConnectFailed("refused"),
    ],
)
def test_passing_trouble_is_tried_at_least_three_times_more_within_30_s(fault: faults.MailFault) -> None:
    tried: list[float] = []

    async def attempt() -> None:
        tried.append(asyncio.get_running_loop().time())
        raise fault

    async def main() -> None:
        with pytest.raises(type(fault)):
            await with_retries(VirtualAmbient(virtual_loop(), 1), attempt)

    run_virtual(main())
    assert len(tried) >= 4
    assert tried[-1] - tried[0] <= WITHIN_S


def test_no_try_comes_before_retry_after() -> None:
    tried: list[float] = []

    async def attempt() -> None:
        tried.append(asyncio.get_running_loop().time())
        raise faults.HttpFailed(429, "", passing=True, retry_after_s=9)

    async def main() -> None:
        with pytest.raises(faults.HttpFailed):
            await with_retries(VirtualAmbient(virtual_loop(), 1), attempt)

    run_virtual(main())
    assert [round(at - tried[0]) for at in tried] == [0, 9, 18, 27]


BYTES_MAX = 100_000
BOMB_BYTES = 64 << 20
TOKEN = Secret("t")


@asynccontextmanager
async def asking(body: bytes, coding: str = "identity") -> AsyncIterator[tuple[Requests, str]]:
    """Requests, and the address of a server that gives this answer to each."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nContent-Encoding: {coding}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        writer.write(body)  # apart: together they would be a copy, which is measured below
        writer.close()

    requests = Requests(Network(allow_private=True), timeout_s=30)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        try:
            yield requests, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            await requests.close()


async def got(body: bytes, coding: str) -> faults.Answer:
    async with asking(body, coding) as (requests, url):
        return await requests.get(url, token=TOKEN, headers={}, bytes_max=BYTES_MAX)


async def test_a_cookie_of_a_server_is_not_sent_to_it_again() -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: who=canary; Path=/\r\n\r\n{}")
        writer.close()

    requests = Requests(Network(allow_private=True), timeout_s=30)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for token in (TOKEN, Secret("of another user")):
            await requests.get(url, token=token, headers={}, bytes_max=BYTES_MAX)
        await requests.close()
    assert len(heads) == 2
    assert b"canary" not in b"".join(heads)


async def test_an_answer_is_unpacked_up_to_its_bound_only() -> None:
    bomb = gzip.compress(bytes(BOMB_BYTES), 1)
    tracemalloc.start()
    try:
        answer = await got(bomb, "gzip")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(answer.body), answer.cut) == (BYTES_MAX, True)
    assert peak_bytes < BOMB_BYTES / 8


@pytest.mark.parametrize(
    ("body", "coding", "fault"),
    [
        (zstandard.compress(bytes(1000)), "zstd", faults.BrokenProtocol),
        (gzip.compress(b"{}"), "gzip, gzip", faults.BrokenProtocol),
        (b"no gzip", "gzip", faults.ConnectionLost),
    ],
)
async def test_an_answer_packed_in_another_way_or_badly_is_a_fault(
    body: bytes, coding: str, fault: type[faults.MailFault]
) -> None:
    with pytest.raises(fault):
        await got(body, coding)


USER = "alice@example.com"


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def tokens(authority: Authority, tmp_path: Path) -> Iterator[TokenServer]:
    authority.server_files(tmp_path, "localhost", "login.example")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    with token_server(tls=tls) as server:
        server.host = "localhost"
        yield server


def graph_only(tokens: TokenServer, host: str) -> Providers:
    """Outlook at this token server, called `host`; IMAP has no scope, so mails come by Graph."""
    url = f"https://{host}:{tokens.port}"
    options = ProviderOptions(
        hosts=("127.0.0.1:1",),
        tls="none",
        token_url=f"{url}/token",
        graph_url=f"{url}/graph",
        scopes=(("https://outlook.office.com/IMAP.AccessAsUser.All",),),
    )
    return Providers({"outlook": options})


async def checked(world: MailWorld, tokens: TokenServer) -> dict[str, Any]:
    token = tokens.grant(USER, GRAPH_SCOPE)
    tokens.inbox(USER).extend([b"Subject: one\r\n\r\nx"] * 3)
    email_id = await world.add(
        USER, mail_type="outlook", password=None, client_id=CLIENT_ID, refresh_token=token
    )
    return await world.checked(email_id)


def test_mails_come_over_https(tokens: TokenServer, authority: Authority) -> None:
    async def test(world: MailWorld) -> None:
        assert (await checked(world, tokens))["status"] == "ok"

    network = Network(allow_private=True, tls=authority.context())
    in_real_world(test, network=network, providers=graph_only(tokens, "localhost"))


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_carries_https(tokens: TokenServer, authority: Authority, scheme: str) -> None:
    tokens.host = "login.example"

    async def test(world: MailWorld) -> None:
        assert (await checked(world, tokens))["status"] == "ok"

    network = Network(allow_private=True, tls=authority.context())
    with forward_proxy() as proxy:
        through = parse_proxy(proxy.url(scheme), trusted=True)
        providers = graph_only(tokens, "login.example")
        in_real_world(test, network=network, providers=providers, proxy=through)
        assert set(proxy.asked) == {("login.example", tokens.port)}


def test_a_certificate_for_another_name_is_refused(tokens: TokenServer, authority: Authority) -> None:
    async def test(world: MailWorld) -> None:
        end = await checked(world, tokens)
        assert (end["status"], end["error_class"]) == ("error", "tls")
        assert tokens.requests == []

    network = Network(allow_private=True, tls=authority.context())
    in_real_world(test, network=network, providers=graph_only(tokens, "127.0.0.1"))
