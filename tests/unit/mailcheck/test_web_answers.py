"""What token endpoints and Graph answer: unpacked within its bound, and read whoever wrote it."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import zstandard

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers.faults import BrokenProtocol, ConnectionLost, MailFault
from huahuo.mailcheck.servers.graph import Graph, Listed, Requests
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.outcome import Answer

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


async def got(body: bytes, coding: str) -> Answer:
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


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
async def test_a_packed_answer_is_unpacked(coding: str) -> None:
    answer = await got(gzip.compress(b'{"value":[]}'), coding)
    assert (answer.json(), answer.cut) == ({"value": []}, False)


@pytest.mark.parametrize("coding", ["identity", ""])
async def test_an_answer_that_is_not_packed_is_taken_as_it_is(coding: str) -> None:
    assert (await got(b"{}", coding)).body == b"{}"


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


async def test_what_follows_a_packed_answer_is_not_kept() -> None:
    body = gzip.compress(b"{}") + bytes(BOMB_BYTES // 4)
    tracemalloc.start()
    try:
        answer = await got(body, "gzip")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (answer.body, answer.cut) == (b"{}", False)
    assert peak_bytes < BOMB_BYTES / 8


@pytest.mark.parametrize(
    ("body", "coding", "fault"),
    [
        (zstandard.compress(bytes(1000)), "zstd", BrokenProtocol),
        (gzip.compress(b"{}"), "gzip, gzip", BrokenProtocol),
        (b"no gzip", "gzip", ConnectionLost),
    ],
)
async def test_an_answer_packed_in_another_way_or_badly_is_a_fault(
    body: bytes, coding: str, fault: type[MailFault]
) -> None:
    with pytest.raises(fault):
        await got(body, coding)


@pytest.mark.parametrize(
    ("name", "address", "shown"),
    [
        ("发票", "a@example.com", "发票 <a@example.com>"),
        ("José", "josé@例子.example", "José <josé@例子.example>"),
        ("", "josé@例子.example", "josé@例子.example"),
        ("bank@example.com", "a@example.com", '"bank@example.com" <a@example.com>'),
        ("a\nb", "a@example.com", "a b <a@example.com>"),
    ],
)
async def test_a_page_of_graph_has_senders_of_any_language(name: str, address: str, shown: str) -> None:
    sent = {"id": "1", "subject": "x", "from": {"emailAddress": {"name": name, "address": address}}}
    async with asking(msgspec.json.encode({"value": [sent]})) as (requests, url):

        async def renew() -> Secret:
            return TOKEN

        graph = Graph(requests, SystemAmbient(), url=url, token=TOKEN, renew=renew, proxy=None)
        page = await graph.page()
    assert page.mails == (Listed("1", None, "x", shown, told=True),)
