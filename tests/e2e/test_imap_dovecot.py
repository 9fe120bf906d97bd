"""One check against a real Dovecot: what is fetched, what stays untouched, what a refusal means."""

import json
import re
from collections.abc import Iterator

import pytest

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.checks.check_effect import CheckLimits, Target
from huahuo.mailcheck.servers.faults import TlsFailed
from huahuo.mailcheck.servers.imap_client import ImapClient
from huahuo.mailcheck.servers.network import Network
from huahuo.mailcheck.servers.providers import Place
from tests.support.drivers.checks import failed_check, run_check, target
from tests.support.patience import WITHIN_S
from tests.support.servers.dovecot import Dovecot, dovecot

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot(tls=True) as running:
        yield running


@pytest.fixture
def user(server: Dovecot, request: pytest.FixtureRequest) -> str:
    """A user of this test's own."""
    name = f"{re.sub('[^a-z0-9]', '-', request.node.name.lower())[:80]}@example.com"
    server.add_user(name)
    return name


@pytest.fixture
def trusting(server: Dovecot) -> Network:
    assert server.authority is not None
    return Network(allow_private=True, tls=server.authority.context())


def mail(subject: str, body: str = "hello", *headers: str) -> bytes:
    lines = [f"Subject: {subject}", "From: Bob <bob@example.com>", *headers, "", body, ""]
    return "\r\n".join(lines).encode()


def test_all_mails_arrive_in_uid_order_with_what_a_list_needs(
    server: Dovecot, user: str, trusting: Network
) -> None:
    server.add_mail(
        user,
        mail("first", "one", "Message-ID: <1@x>", "Date: Tue, 01 Jul 2025 10:00:00 +0800"),
        mail("=?utf-8?B?6aqM6K+B56CB?=", "two"),
    )
    done, report = run_check(target(server.port, user, host="localhost"), network=trusting)
    first, second = report.got
    assert (done.new_count, done.resynced, done.cursor.uid) == (2, False, 2)
    assert (first.uid, first.subject, first.sender) == (1, "first", "Bob <bob@example.com>")
    assert (first.message_id, first.date_ms, first.folder) == ("<1@x>", 1_751_335_200_000, "INBOX")
    assert second.subject == "验证码"
    assert second.date_ms == second.internal_date_ms
    assert json.loads(second.content)["text"] == "two\n"


def test_mails_removed_from_the_server_leave_no_hole_and_no_repeat(
    server: Dovecot, user: str, trusting: Network
) -> None:
    server.add_mail(user, *[mail(f"m{n}") for n in range(1, 7)])
    server.expunge(user, 2, 5)
    where = target(server.port, user, host="localhost")
    done, report = run_check(where, network=trusting)
    assert [each.uid for each in report.got] == [1, 3, 4, 6]
    server.expunge(user, 6)
    again, nothing = run_check(where, done.cursor, network=trusting)
    assert (again.cursor.uid, nothing.got) == (6, [])


def test_batches_are_small_and_each_cursor_stands_at_its_last_mail(
    server: Dovecot, user: str, trusting: Network
) -> None:
    server.add_mail(user, *[mail(f"m{n}", "x" * 900) for n in range(23)])
    limits = CheckLimits(batch_mails_max=4, batch_bytes_max=3500)
    _, report = run_check(target(server.port, user, host="localhost"), network=trusting, limits=limits)
    assert len(report.got) == 23
    assert max(report.sizes) == 3
    ends = [report.got[sum(report.sizes[: n + 1]) - 1].uid for n in range(len(report.sizes))]
    assert [cursor.uid for cursor in report.cursors] == ends


def test_a_mail_over_the_limit_is_reported_by_its_beginning(
    server: Dovecot, user: str, trusting: Network
) -> None:
    server.add_mail(user, mail("small"), mail("huge", "line of text\r\n" * 20_000), mail("after"))
    limits = CheckLimits(mail_bytes_max=100_000, head_bytes_max=2000)
    _, report = run_check(target(server.port, user, host="localhost"), network=trusting, limits=limits)
    assert report.subjects == ["small", "huge", "after"]
    assert [each.truncated for each in report.got] == [False, True, False]
    huge = report.got[1]
    assert huge.size > 260_000
    assert len(huge.content) < 3000


def test_a_mail_without_any_header_is_not_lost(server: Dovecot, user: str, trusting: Network) -> None:
    server.add_mail(user, b"no header here\r\n", b"\r\n", b"Subject: \xff\xfe\x80\r\n\r\n\x80\x81")
    _, report = run_check(target(server.port, user, host="localhost"), network=trusting)
    assert len(report.got) == 3
    assert "no header here" in json.loads(report.got[0].content)["text"]


@pytest.mark.parametrize(
    "password",
    [
        "plain",
        "",
        'quote " and \\ backslash',
        "密码 pässword",
        "{5}",
        "a b\x7fc",
        "x" * 400,
        "%d %s (paren) [bracket]",
        '" LOGOUT',
    ],
)
def test_any_password_logs_in_as_itself(server: Dovecot, trusting: Network, password: str) -> None:
    user = f"用户-{password.encode().hex()[:60]}@example.com"
    server.add_user(user, password)
    done, _ = run_check(target(server.port, user, password, host="localhost"), network=trusting)
    assert done.new_count == 0


def test_tls_from_the_first_byte_works_with_the_name_as_given(
    server: Dovecot, user: str, trusting: Network
) -> None:
    server.add_mail(user, mail("over tls"))
    where = target(server.tls_port, user, host="localhost", use_ssl=True)
    _, report = run_check(where, network=trusting)
    assert report.subjects == ["over tls"]


def test_the_name_is_proved_although_another_address_is_connected_to(
    server: Dovecot, user: str, trusting: Network
) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        assert host == "imap.example.com"
        return ["127.0.0.1"]

    network = Network(allow_private=True, tls=trusting.tls, resolver=resolver)
    where = target(server.tls_port, user, host="imap.example.com", use_ssl=True)
    done, _ = run_check(where, network=network)
    assert done.new_count == 0
    impostor = Network(
        allow_private=True, tls=trusting.tls, resolver=lambda *_: resolver("imap.example.com", 0)
    )
    outcome = failed_check(
        target(server.tls_port, user, host="imap.other.example", use_ssl=True), network=impostor
    )
    assert outcome.kind == "certificate"


def test_a_certificate_nobody_vouches_for_ends_the_check_before_the_password(
    server: Dovecot, user: str
) -> None:
    logins = server.log.count("Logged in")
    outcome = failed_check(target(server.tls_port, user, host="localhost", use_ssl=True))
    assert (outcome.status, outcome.kind, outcome.retry) == ("error", "certificate", False)
    assert server.log.count("Logged in") == logins


def test_a_certificate_nobody_vouches_for_does_where_clear_text_would(server: Dovecot, user: str) -> None:
    """On an address of our own networks, without `use_ssl`: TLS against listeners, no proof asked."""
    done, _ = run_check(target(server.port, user, host="localhost"))
    assert done.new_count == 0


async def test_a_public_server_must_prove_its_name_after_starttls(server: Dovecot, user: str) -> None:
    stream = await Network(allow_private=True).open_stream(
        "localhost", server.port, use_ssl=False, timeout_s=WITHIN_S
    )
    stream.public = True  # as it would be for an address of the internet
    client = ImapClient(stream, SystemAmbient(), command_timeout_s=WITHIN_S, fetch_timeout_s=WITHIN_S)
    await client.greet()
    with pytest.raises(TlsFailed):
        await client.secure()
    client.abort()


def test_starttls_is_used_where_it_is_offered(server: Dovecot, user: str, trusting: Network) -> None:
    run_check(target(server.port, user, host="localhost"), network=trusting)
    line = next(line for line in server.log.splitlines() if f"user=<{user}>" in line and "Logged in" in line)
    assert "TLS" in line


def test_tls_spoken_to_a_plain_port_is_an_error_not_a_hang(server: Dovecot, user: str) -> None:
    outcome = failed_check(target(server.port, user, host="localhost", use_ssl=True))
    assert outcome.status == "error"
    assert outcome.kind in {"tls", "connect"}


def test_the_target_shows_no_password() -> None:
    shown = repr(Target(places=(Place("h", 1, "implicit"),), user="u", secret=Secret("canary")))
    assert "canary" not in shown
