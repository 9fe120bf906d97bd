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
    Fetched,
    fetched,
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


def test_a_fetch_tells_uid_size_date_and_body() -> None:
    told = fetched([b'3 FETCH (UID 9 RFC822.SIZE 120 INTERNALDATE "01-Jul-2025 10:00:00 +0800")'])
    assert told == Fetched(9, 120, 1_751_335_200_000)
    assert fetched([(b"3 FETCH (UID 9 BODY[] {4}", b"body"), b")"]) == Fetched(9, body=b"body")
    assert fetched([(b"3 fetch (BODY[]<0> {4}", b"body"), b" UID 9)"]) == Fetched(9, body=b"body")
    assert fetched([b'3 FETCH (UID 9 BODY[] "quoted")']) == Fetched(9, body=b"quoted")
    assert fetched([b'3 FETCH (UID 9 BODY[] "123")']) == Fetched(9, body=b"123")
    assert fetched([b"3 FETCH (UID 9 BODY[] NIL)"]) == Fetched(9)


@pytest.mark.parametrize(
    "date",
    [
        b"01-Jul-2025 10:00:00 +0800",
        b" 1-jan-1999 00:00:00 -0330",
        b"29-FEB-2024 23:59:59 +0000",
        b"31-Feb-2025 10:00:00 +0000",
        b"01-Xyz-2025 10:00:00 +0000",
    ],
)
def test_the_usual_order_of_what_is_asked_says_the_same_as_any_other(date: bytes) -> None:
    usual = fetched([b'3 FETCH (UID 9 RFC822.SIZE 120 INTERNALDATE "' + date + b'")'])
    other = fetched([b'3 FETCH (RFC822.SIZE 120 INTERNALDATE "' + date + b'" UID 9)'])

    assert usual == other
    assert usual is not None


@pytest.mark.parametrize(
    "date",
    [
        b"nonsense",
        b"",
        b"31-Feb-2025 99:00:00 +0000",
        b"01-Jan-0001 00:00:00 +0000",
        b"01-Jan-2025 00:00:00 +9900",
    ],
)
def test_a_date_that_is_none_does_not_lose_the_mail(date: bytes) -> None:
    told = fetched([b'3 FETCH (UID 9 RFC822.SIZE 1 INTERNALDATE "' + date + b'")'])
    assert told is not None
    assert (told.uid, told.size) == (9, 1)


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


async def test_where_nodes_divide_checks_their_bound_at_one_host_is_a_number_of_places() -> None:
    connections = Connections(Providers(), 2, checks_per_host_max=1)
    first, others = connections.of_check(plan("h.example")), connections.of_check(plan("other.example"))
    async with first, others, connections.of_mail(plan("h.example")):
        second = asyncio.ensure_future(connections.of_check(plan("H.example")).__aenter__())
        await asyncio.sleep(0)
        assert not second.done()
    await second
