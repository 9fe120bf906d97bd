"""IDLE on a connection whose other end the test plays: what is news, and what must not end it."""

import asyncio
import ssl
from typing import Any, cast

import pytest

from huahuo.mailcheck.servers.faults import CommandRefused, ConnectionLost, ServerBye
from huahuo.mailcheck.servers.imap_connection import Idle, ImapStream

LINE_MAX = 1024


class Wire(asyncio.Transport):
    """What was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: Any) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Held:
    """An IDLE, how often it brought news, and its connection."""

    def __init__(self) -> None:
        self.stream = ImapStream("imap.example.com", cast("ssl.SSLContext", None), public=False)
        self.wire = Wire()
        self.stream.connection_made(self.wire)
        self.news = 0
        self.idle = Idle(self.stream, b"h7", self._count, ())

    def _count(self) -> None:
        self.news += 1

    def hears(self, text: bytes) -> None:
        self.stream.data_received(text)

    async def begun(self, answer: bytes = b"+ idling\r\n") -> "Held":
        self.hears(answer)
        await self.idle.begin(LINE_MAX)
        return self


async def test_a_mail_is_news_once() -> None:
    held = await Held().begun()
    assert held.wire.sent == b"h7 IDLE\r\n"
    held.hears(b"* 4 EXI")
    assert held.news == 0
    held.hears(b"STS\r\n* 1 RECENT\r\n* 5 EXISTS\r\n")
    assert held.news == 1


async def test_a_mail_that_came_before_the_server_agreed_is_news() -> None:
    assert (await Held().begun(b"* 4 EXISTS\r\n+ idling\r\n")).news == 1
    assert (await Held().begun(b"+ idling\r\n* 4 EXISTS\r\n")).news == 1


@pytest.mark.parametrize(
    "line", [b"* OK Still here", b"* 3 FETCH (FLAGS (\\Seen))", b"* 2 EXPUNGE", b"* FLAGS (\\Seen)"]
)
async def test_what_brings_no_mail_is_no_news_however_often_it_comes(line: bytes) -> None:
    held = await Held().begun()
    for _ in range(100_000 // len(line)):
        held.hears(line + b"\r\n")
    assert held.news == 0
    ending = asyncio.create_task(held.idle.end(LINE_MAX))
    await asyncio.sleep(0)
    held.hears(b"h7 OK done\r\n")
    await ending
    assert held.wire.sent.endswith(b"DONE\r\n")


async def test_a_server_without_idle_refuses_it() -> None:
    with pytest.raises(CommandRefused):
        await Held().begun(b"h7 BAD unknown command\r\n")


async def test_a_lost_connection_is_news_and_its_end_says_so() -> None:
    held = await Held().begun()
    held.stream.connection_lost(None)
    assert held.news == 1
    with pytest.raises(ConnectionLost):
        await held.idle.end(LINE_MAX)


async def test_a_goodbye_is_news() -> None:
    held = await Held().begun()
    held.hears(b"* BYE too many connections\r\n")
    assert held.news == 1
    with pytest.raises(ServerBye):
        await Held().begun(b"* BYE no\r\n")


async def test_a_line_without_an_end_is_news_before_it_fills_the_memory() -> None:
    held = await Held().begun()
    for _ in range(100):
        held.hears(b"x" * 1_000)
    assert held.news == 1
