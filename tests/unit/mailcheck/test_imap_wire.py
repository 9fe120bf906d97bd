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
    BrokenProtocol,
    CommandRefused,
    ConnectionLost,
    ServerBye,
)
from huahuo.mailcheck.servers.imap_connection import Idle, ImapStream
from huahuo.mailcheck.servers.imap_grammar import (
    CREDENTIAL_BYTES_MAX,
    Fetched,
    fetched,
    literal_size,
    login_pieces,
    number,
    search_uids,
    status,
    uid_set,
)
from huahuo.mailcheck.servers.providers import Providers


@pytest.mark.parametrize(
    ("user", "password", "pieces"),
    [
        ("bob", "pw", [b'LOGIN "bob" "pw"\r\n']),
        ("bob", "", [b'LOGIN "bob" ""\r\n']),
        ("bob", 'a"b\\c', [b'LOGIN "bob" "a\\"b\\\\c"\r\n']),
        ("bob", "pä", [b'LOGIN "bob" {3}\r\n', b"p\xc3\xa4\r\n"]),
        ("ü", "p", [b"LOGIN {2}\r\n", b'\xc3\xbc "p"\r\n']),
        ("ü", "ä", [b"LOGIN {2}\r\n", b"\xc3\xbc {2}\r\n", b"\xc3\xa4\r\n"]),
        ("bob", "a\tb", [b'LOGIN "bob" {3}\r\n', b"a\tb\r\n"]),
        ("bob", "{5}", [b'LOGIN "bob" "{5}"\r\n']),
    ],
)
def test_credentials_are_quoted_or_sent_as_literals(user: str, password: str, pieces: list[bytes]) -> None:
    assert [bytes(piece) for piece in login_pieces(user, Secret(password))] == pieces


@pytest.mark.parametrize("evil", ["a\r", "a\nb", "\0", "\ud800", "x" * (CREDENTIAL_BYTES_MAX + 1)])
def test_what_cannot_be_sent_is_refused_for_user_and_password(evil: str) -> None:
    for user, password in ((evil, "p"), ("u", evil)):
        with pytest.raises(BadCredentials) as refused:
            login_pieces(user, Secret(password))
        assert evil not in str(refused.value)


def test_the_pieces_do_not_show_the_password() -> None:
    assert "canary" not in repr(login_pieces("bob", Secret("canary")))
    assert "canary" not in repr(login_pieces("bob", Secret("cänary canary")))


@pytest.mark.parametrize(
    ("uids", "text"), [([5], b"5"), ([1, 2, 3], b"1:3"), ([1, 3, 4, 9], b"1,3:4,9"), ([7, 9], b"7,9")]
)
def test_uids_are_written_as_ranges_that_hold_nothing_else(uids: list[int], text: bytes) -> None:
    assert uid_set(uids) == text


@pytest.mark.parametrize(
    ("line", "size"),
    [(b"x {12}", 12), (b"x {0}", 0), (b"x {1} y", None), (b"{-1}", None), (b"{99999999999}", None)],
)
def test_a_line_says_how_long_its_literal_is(line: bytes, size: int | None) -> None:
    assert literal_size(line) == size


def test_a_status_has_code_and_text() -> None:
    said = status(b"h3 NO [AUTHENTICATIONFAILED] Invalid credentials")
    assert said is not None
    assert (said.tag, said.status, said.code, said.text) == (
        b"h3",
        "NO",
        "AUTHENTICATIONFAILED",
        b"Invalid credentials",
    )
    said = status(b"* ok [uidvalidity 42]")
    assert said is not None
    assert (said.status, said.code, said.argument) == ("OK", "UIDVALIDITY", b"42")
    assert status(b"* 3 EXISTS") is None


@pytest.mark.parametrize("line", [b"", b" ", b"h1", b"h1 EXISTS", b"\xff\xff", b"*"])
def test_a_line_without_form_is_a_broken_protocol(line: bytes) -> None:
    if line == b"*":
        assert status(line) is None
        return
    with pytest.raises(BrokenProtocol):
        status(line)


@pytest.mark.parametrize(("text", "value"), [(b"0", 0), (b"42", 42), (b"4294967295", 2**32 - 1)])
def test_a_number_has_32_bits(text: bytes, value: int) -> None:
    assert number(text) == value
    assert number(b"-" + text) is None
    assert number(b"9" + text.rjust(10, b"0")) is None


def test_search_results_are_numbers() -> None:
    assert search_uids(b"") == []
    assert search_uids(b" 3 1 2 ") == [3, 1, 2]
    assert search_uids(b"1 2 (MODSEQ 917162500)") == [1, 2]


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


def test_a_fetch_without_uid_and_other_data_tell_nothing() -> None:
    assert fetched([b"3 FETCH (FLAGS (\\Seen))"]) is None
    assert fetched([b"3 EXISTS"]) is None


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


def test_small_mails_are_parsed_in_one_job() -> None:
    assert together(*[3_000] * 10) == [[3_000] * 10]


def test_a_large_mail_has_a_job_of_its_own() -> None:
    assert together(100, JOB_BYTES_MAX + 1, 200) == [[100], [JOB_BYTES_MAX + 1], [200]]


def test_a_job_takes_no_more_mails_and_bytes_than_its_bounds() -> None:
    assert together(*[0] * (JOB_MAILS_MAX + 1)) == [[0] * JOB_MAILS_MAX, [0]]
    half = JOB_BYTES_MAX // 2
    assert together(half, half, half) == [[half, half], [half]]


def test_no_mails_are_no_job() -> None:
    assert together() == []


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
