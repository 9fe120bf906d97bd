"""IMAP: texts, batches, IDLE on a connection whose other end the test plays, and places at servers."""

import asyncio
import ssl
from typing import Any, cast

import pytest

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.checks.connections import Connections
from huahuo.mailcheck.checks.folder_reader import JOB_BYTES_MAX, JOB_MAILS_MAX, RawMail, jobs
from huahuo.mailcheck.mailbox.decider import Plan
from huahuo.mailcheck.servers.faults import (
    BadCredentials,
    CommandRefused,
    ConnectionLost,
    ServerBye,
)
from huahuo.mailcheck.servers.imap_client import Idle, ImapStream
from huahuo.mailcheck.servers.imap_grammar import (
    CREDENTIAL_BYTES_MAX,
    login_pieces,
)
from huahuo.mailcheck.servers.providers import Providers


@pytest.mark.parametrize("evil", ["a\r", "a\nb", "\0", "\ud800", "x" * (CREDENTIAL_BYTES_MAX + 1)])
def test_what_cannot_be_sent_is_refused_for_user_and_password(evil: str) -> None:
    for user, password in ((evil, "p"), ("u", evil)):
        with pytest.raises(BadCredentials) as refused:
            login_pieces(user, Secret(password))
        assert evil not in str(refused.value)


def test_the_pieces_do_not_show_the_password() -> None:
    assert "canary" not in repr(login_pieces("bob", Secret("canary")))
    assert "canary" not in repr(login_pieces("bob", Secret("cänary canary")))


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


def raw(uid: int, size: int) -> RawMail:
    return RawMail(uid, size, None, b"x" * size, truncated=False)


def together(*sizes: int) -> list[list[int]]:
    """The sizes of mails, as their jobs have them."""
    return [[mail.size for mail in some] for some in jobs(raw(uid, size) for uid, size in enumerate(sizes))]


def test_a_job_takes_no_more_mails_and_bytes_than_its_bounds() -> None:
    assert together(*[0] * (JOB_MAILS_MAX + 1)) == [[0] * JOB_MAILS_MAX, [0]]
    half = JOB_BYTES_MAX // 2
    assert together(half, half, half) == [[half, half], [half]]


def plan(server: str) -> Plan:
    return Plan(email="a@b.example", mail_type="imap", server=server, port=993, use_ssl=True, cursors={})


def test_nothing_is_kept_of_a_server_without_connections() -> None:
    connections = Connections(Providers(), 2)
    for n in range(10_000):
        assert connections.of_watchers(plan(f"h{n}.example")).try_take(0.0)
    assert connections.hosts == 0


def test_all_who_have_a_place_at_a_server_share_its_bound() -> None:
    connections = Connections(Providers(), 2)
    places = connections.of_watchers(plan("h.example"))
    assert places.try_take(0.0)
    assert connections.of_watchers(plan("H.example")).try_take(0.0)
    assert not connections.of_watchers(plan("h.example")).try_take(0.0)
    assert connections.hosts == 1
