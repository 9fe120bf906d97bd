"""A mail server that attacks ends a check with a typed failure, soon, in bounded memory.

One that tells is not asked.
"""

import asyncio
import gc
import tracemalloc

import pytest

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.mailcheck.checks.check_effect import CheckFailed, CheckLimits, Ok
from huahuo.mailcheck.events import FetchedMail, UidCursor
from huahuo.mailcheck.servers.faults import (
    BrokenProtocol,
    ClearTextRefused,
    ConnectionLost,
    MailFault,
    Outcome,
    ServerBye,
    TimedOut,
)
from huahuo.mailcheck.servers.imap_client import ImapClient
from tests.support.drivers.checks import LOCAL, Report, checked, target
from tests.support.patience import WITHIN_S
from tests.support.servers.evil_imap import Peer, Script, evil

IMPATIENT = CheckLimits(
    connect_timeout_s=1.0,
    command_timeout_s=0.3,
    fetch_timeout_s=0.3,
    idle_timeout_s=0.5,
    logout_timeout_s=0.1,
    mail_bytes_max=100_000,
    batch_bytes_max=10_000,
)
PATIENT = CheckLimits(
    connect_timeout_s=30.0,
    command_timeout_s=30.0,
    fetch_timeout_s=30.0,
    idle_timeout_s=40.0,
    logout_timeout_s=0.1,
    mail_bytes_max=100_000,
    batch_bytes_max=10_000,
)


async def attacked(
    script: Script, limits: CheckLimits = PATIENT, since: UidCursor | None = None
) -> tuple[Outcome, MailFault, Report]:
    """What a check against `script` ends with."""
    report = Report()
    async with evil(script) as server, asyncio.timeout(WITHIN_S):
        with pytest.raises(CheckFailed) as failed:
            await checked(target(server.port), since, report=report, limits=limits)
    fault = failed.value.__cause__
    assert isinstance(fault, MailFault)
    return failed.value.outcome, fault, report


async def served(script: Script, since: UidCursor | None = None) -> tuple[Ok, Report]:
    """What a check against `script` gives."""
    async with evil(script) as server, asyncio.timeout(WITHIN_S):
        return await checked(target(server.port), since, limits=PATIENT)


async def test_an_endless_stream_of_untagged_responses_is_cut_off() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_examine()
        while True:
            await peer.raw(b"* 1 EXISTS\r\n" * 1000)

    outcome, fault, _ = await attacked(script)
    assert isinstance(fault, BrokenProtocol)
    assert outcome.status == "error"


async def test_an_endless_slow_stream_of_untagged_responses_meets_the_deadline() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_examine()
        while True:
            await peer.say(b"* OK still working")
            await asyncio.sleep(0.02)

    outcome, fault, _ = await attacked(script, IMPATIENT)
    assert isinstance(fault, TimedOut)
    assert (outcome.status, outcome.kind) == ("error", "timeout")


@pytest.mark.parametrize(
    "stage", ["greeting", "until_login", "until_examine", "until_search", "until_bodies"]
)
async def test_silence_meets_the_deadline_at_every_stage(stage: str) -> None:
    async def script(peer: Peer) -> None:
        if stage == "until_bodies":
            await peer.until_bodies(1, 2)
        elif stage != "greeting":
            await getattr(peer, stage)()
        await peer.silent()

    _, fault, _ = await attacked(script, IMPATIENT)
    assert isinstance(fault, TimedOut)


@pytest.mark.parametrize("stage", ["greeting", "until_login", "until_search", "until_bodies"])
async def test_a_line_without_end_is_cut_off_in_bounded_memory(stage: str) -> None:
    async def script(peer: Peer) -> None:
        if stage == "until_bodies":
            await peer.until_bodies(1)
        elif stage != "greeting":
            await getattr(peer, stage)()
        await peer.raw(b"* ")
        while True:
            await peer.raw(b"x" * 65536)

    gc.collect()
    tracemalloc.start()
    try:
        _, fault, _ = await attacked(script)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(fault, BrokenProtocol)
    assert peak < 16 * 1024 * 1024


async def test_a_literal_larger_than_any_mail_is_refused_before_it_is_read() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_bodies(1)
        await peer.raw(b"* 1 FETCH (UID 1 BODY[] {4294967295}\r\n")
        while True:
            await peer.raw(b"x" * 65536)

    _, fault, _ = await attacked(script)
    assert isinstance(fault, BrokenProtocol)


async def test_a_literal_shorter_than_promised_ends_as_a_lost_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_bodies(1)
        await peer.raw(b"* 1 FETCH (UID 1 BODY[] {30}\r\nonly this")

    outcome, fault, report = await attacked(script)
    assert isinstance(fault, ConnectionLost)
    assert (outcome.kind, outcome.retry) == ("lost", True)
    assert report.got == []


async def test_a_literal_longer_than_promised_ends_as_a_broken_protocol() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_bodies(1)
        await peer.raw(b"* 1 FETCH (UID 1 BODY[] {4}\r\nSubject: longer\r\n\r\n)\r\n")
        await peer.ok()
        await peer.silent()

    _, fault, report = await attacked(script)
    assert isinstance(fault, BrokenProtocol)
    assert report.got == []


async def test_a_goodbye_in_the_middle_of_a_fetch_keeps_what_was_delivered() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_bodies(1, 2, size=9_000)
        await peer.say(b"* 1 FETCH (UID 1 BODY[] {14}", b"Subject: one\r\n)")
        await peer.ok()
        await peer.hear(b"UID FETCH")
        await peer.say(b"* BYE shutting down")

    outcome, fault, report = await attacked(script)
    assert isinstance(fault, ServerBye)
    assert (outcome.status, outcome.kind, outcome.server_text) == ("error", "bye", "shutting down")
    assert report.subjects == ["one"]
    assert report.cursors == [UidCursor("INBOX", 7, 1)]


@pytest.mark.parametrize(
    "greeting",
    [
        b"* PREAUTH you are logged in already",
        b"SSH-2.0-OpenSSH_9.9",
        b"+ go on",
        b"HTTP/1.1 400 Bad Request",
        b"\x16\x03\x01",
        b"",
        b"h1 OK done",
    ],
)
async def test_what_is_no_greeting_is_not_talked_to(greeting: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.say(greeting)
        assert await peer.reader.read() == b""

    _, fault, _ = await attacked(script)
    assert isinstance(fault, BrokenProtocol)


@pytest.mark.parametrize(
    "answer",
    [
        b"* 1 FETCH (UID 1 BODY[] " + b"(" * 5000,
        b"* 1 FETCH " + b"(" * 5000 + b")" * 5000,
        b'* 1 FETCH (UID "abc" BODY[] "unclosed)',
        b"* 1 FETCH (UID 1 RFC822.SIZE)",
        b"* 1 FETCH 5",
        b"* 1 FETCH (5 6)",
        b"* 1 FETCH (UID 1 BODY 7)",
        b"* 1 FETCH (UID 1 ENVELOPE (NIL))",
        b"* 1 FETCH (UID 99999999999999999999999999 BODY[] NIL",
        b'* 1 FETCH (UID 1 "' + b"\\" * 999 + b'" x',
        b"* 1 FETCH (UID 1 BODY[] {3}",
        b"h9 OK an answer to a later command",
        b"+ more please",
    ],
)
async def test_nonsense_instead_of_a_fetch_response_is_a_broken_protocol(answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.until_bodies(1)
        await peer.say(answer)
        await peer.ok()
        await peer.silent()

    _, fault, _ = await attacked(script)
    assert isinstance(fault, BrokenProtocol)


async def test_thousands_of_literals_in_one_response_are_a_broken_protocol() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_bodies(1)
        await peer.raw(b"* 1 FETCH (UID 1 X" + b" {0}\r\n" * 50_000)
        await peer.silent()

    _, fault, _ = await attacked(script)
    assert isinstance(fault, BrokenProtocol)


async def test_a_password_echoed_by_the_server_is_struck_out() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_login()
        await peer.say(peer.tag + b" NO \x1b[31m wrong password: 'secret' / c2VjcmV0\x07")

    outcome, fault, _ = await attacked(script)
    assert outcome.status == "need_reauth"
    assert outcome.server_text == "[31m wrong password: '***' / ***"
    assert "secret" not in f"{fault!r} {fault} {outcome!r}"


async def test_a_password_echoed_after_the_login_is_struck_out_too() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_examine()
        await peer.say(b"* BYE you are alice@example.com:secret")

    outcome, _, _ = await attacked(script)
    assert outcome.server_text == "you are alice@example.com:***"


async def test_text_injected_before_starttls_is_never_read() -> None:
    """The plain-text command injection of 2011, seen from the client: answers that arrive too early."""

    async def script(peer: Peer) -> None:
        await peer.say(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready")
        await peer.hear(b"STARTTLS")
        await peer.raw(peer.tag + b" OK go\r\n* CAPABILITY IMAP4rev1\r\nh2 OK done\r\nh3 OK logged in\r\n")
        first = await peer.reader.read(1)
        assert first == b"\x16", "the client answered in clear"

    outcome, _, report = await attacked(script)
    assert outcome.kind in {"tls", "lost"}
    assert report.percents == [0]


async def test_a_public_server_without_tls_never_sees_the_password() -> None:
    """An attacker who strips STARTTLS from the answer gets no password."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.hear(b"CAPABILITY")
        await peer.say(b"* CAPABILITY IMAP4rev1")
        await peer.ok()
        peer.heard.append(await peer.reader.read())

    async with evil(script) as server:
        stream = await LOCAL.open_stream("127.0.0.1", server.port, use_ssl=False, timeout_s=WITHIN_S)
        stream.public = True  # as it would be for an address of the internet
        client = ImapClient(stream, SystemAmbient(), command_timeout_s=WITHIN_S, fetch_timeout_s=WITHIN_S)
        await client.greet()
        with pytest.raises(ClearTextRefused):
            await client.secure()
        client.abort()
    assert not any(b"LOGIN" in line for peer in server.peers for line in peer.heard)


async def test_the_last_mail_below_the_asked_range_is_not_a_new_mail() -> None:
    """`UID SEARCH UID 6:*` matches the last mail even if its UID is 5."""

    async def script(peer: Peer) -> None:
        await peer.until_search()
        await peer.say(b"* SEARCH 5")
        await peer.ok()
        await peer.hear(b"LOGOUT")

    done, report = await served(script, UidCursor("INBOX", 7, 5))
    assert (done.new_count, report.got) == (0, [])


async def test_a_mail_that_the_server_cannot_read_does_not_hide_the_next() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_bodies(1, 2)
        await peer.say(
            b"* 2 FETCH (UID 2 BODY[] {12}", b"Subject: two)", peer.tag + b" NO [SERVERBUG] damaged"
        )
        await peer.hear(b"UID FETCH 1 ")
        await peer.say(peer.tag + b" NO damaged")
        await peer.hear(b"UID SEARCH UID 1")
        await peer.say(b"* SEARCH 1")
        await peer.ok()
        await peer.hear(b"UID FETCH 2 ")
        await peer.say(b"* 2 FETCH (UID 2 BODY[]<0> {12}", b"Subject: two)")
        await peer.ok()
        await peer.hear(b"LOGOUT")

    done, report = await served(script)
    assert done.new_count == 2
    assert [(mail.uid, mail.subject, mail.truncated) for mail in report.got] == [
        (1, "", True),
        (2, "two", False),
    ]


async def test_a_server_that_delivers_nothing_fails_the_check_and_loses_no_mail() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_bodies(1, 2)
        await peer.ok()
        while line := await peer.reader.readline():
            tag, _, command = line.partition(b" ")
            if command.startswith(b"UID SEARCH"):
                await peer.say(b"* SEARCH 1 2")
            await peer.say(tag + b" OK nothing to see")

    outcome, _, report = await attacked(script)
    assert outcome.status == "error"
    assert report.cursors == []


async def test_flags_told_at_any_time_are_not_taken_for_mails() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_bodies(1)
        await peer.say(
            b"* 9 FETCH (FLAGS (\\Seen))",
            b"* 1 FETCH (UID 1 FLAGS (\\Seen))",
            b"* 2 EXISTS",
            b"* OK text with a brace {5}",
            b"* 1 FETCH (FLAGS () BODY[] {12}",
            b"Subject: one UID 1)",
        )
        await peer.ok()
        await peer.hear(b"LOGOUT")

    _, report = await served(script)
    assert report.subjects == ["one"]


async def test_a_check_that_is_cancelled_closes_its_connection() -> None:
    reached, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.until_bodies(1)
        reached.set()
        await peer.silent()
        gone.set()

    async with evil(script) as server, asyncio.timeout(WITHIN_S):
        task = asyncio.create_task(checked(target(server.port), limits=PATIENT))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone.wait()


async def test_a_failing_sink_ends_the_check_with_its_own_error() -> None:
    class Full(Report):
        async def mails(self, batch: list[FetchedMail], cursor: UidCursor) -> None:
            raise OSError(28, "no space")

    async def script(peer: Peer) -> None:
        await peer.until_bodies(1)
        await peer.say(b"* 1 FETCH (UID 1 BODY[] {12}", b"Subject: one)")
        await peer.ok()
        await peer.silent()

    async with evil(script) as server, asyncio.timeout(WITHIN_S):
        with pytest.raises(OSError, match="no space"):
            await checked(target(server.port), report=Full(), limits=PATIENT)


@pytest.mark.parametrize("while_", ["sizes", "bodies"])
async def test_a_mail_that_is_removed_while_mails_are_fetched_does_not_break_the_check(while_: str) -> None:
    async def script(peer: Peer) -> None:
        sizes = b'* %d FETCH (UID %d RFC822.SIZE 30 INTERNALDATE "01-Jul-2025 10:00:00 +0000")'
        await peer.until_sizes(1, 2, 3)
        if while_ == "sizes":
            await peer.say(sizes % (1, 1), b"* 2 EXPUNGE", b"* 2 EXISTS", sizes % (2, 3))
            await peer.ok()
            await peer.hear(b"UID SEARCH UID 2")
            await peer.say(b"* SEARCH")
        else:
            await peer.say(*(sizes % (n, n) for n in (1, 2, 3)))
        await peer.ok()
        await peer.hear(b"UID FETCH")
        body = b"* %d FETCH (UID %d BODY[] {30}\r\nSubject: %d\r\n\r\n0123456789012345)"
        await peer.say(body % (1, 1, 1), b"* 2 EXPUNGE", body % (2, 3, 3))
        await peer.ok()
        if while_ == "bodies":
            await peer.hear(b"UID FETCH 2")
            await peer.ok()
            await peer.hear(b"UID SEARCH UID 2")
            await peer.say(b"* SEARCH")
            await peer.ok()
        await peer.hear(b"LOGOUT")
        await peer.ok()

    _, report = await served(script)
    assert report.subjects == ["1", "3"]


async def test_the_page_that_a_provider_wants_opened_is_told() -> None:
    page = b"https://accounts.example.com/signin/continue?sarp=1&plt=AKgnsb"

    async def script(peer: Peer) -> None:
        await peer.until_login()
        await peer.say(peer.tag + b" NO [WEBALERT " + page + b"] Web login required. (Failure)")
        await peer.silent()

    outcome, _, _ = await attacked(script)
    assert (outcome.kind, outcome.status) == ("web_alert", "need_reauth")
    assert outcome.said.endswith(f": {page.decode()} Web login required. (Failure)")


@pytest.mark.parametrize("uidnext", [b"1", b"5", b"7", b"x", b""])
async def test_a_folder_whose_next_uid_is_any_other_is_searched(uidnext: bytes) -> None:
    """Lower ones are wrong: some servers always say 1."""

    async def script(peer: Peer) -> None:
        await peer.opened(2, uidnext)
        await peer.hear(b"UID SEARCH UID 6:*")
        await peer.say(b"* SEARCH")
        await peer.ok()
        await peer.hear(b"LOGOUT")

    done, _ = await served(script, UidCursor("INBOX", 7, 5))
    assert done.new_count == 0


async def test_capabilities_in_the_greeting_and_after_the_login_are_not_asked_for() -> None:
    """Dovecot repeats them after the login only to a client that did not ask for them before."""

    async def script(peer: Peer) -> None:
        await peer.opened(0)
        await peer.hear(b"LOGOUT")
        assert not [line for line in peer.heard if b"CAPABILITY" in line]

    done, _ = await served(script)
    assert done.new_count == 0
