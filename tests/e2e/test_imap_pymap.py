"""The same check against pymap: an IMAP server that shares no line with Dovecot."""

from collections.abc import Iterator

import pytest

from huahuo.mailcheck.checks.check_effect import CheckLimits
from tests.support.drivers.checks import failed_check, run_check, target
from tests.support.servers.pymap import Pymap, pymap

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server() -> Iterator[Pymap]:
    with pymap() as running:
        yield running


def test_mails_are_read_once_and_the_server_forgets_nothing(server: Pymap) -> None:
    where = target(server.port, server.user, server.password)
    start, _ = run_check(where)
    server.add_mail(*[b"Subject: m%d\r\n\r\nbody" % n for n in range(30)])
    done, report = run_check(where, start.cursor)
    assert report.subjects == [f"m{n}" for n in range(30)]
    again, nothing = run_check(where, done.cursor)
    assert (again.cursor, nothing.got) == (done.cursor, [])
    with server.client() as client:
        client.select("INBOX", readonly=True)
        assert len(client.search(None, "UNSEEN")[1][0].split()) == 30


def test_a_mail_over_the_limit_is_reported_by_its_beginning(server: Pymap) -> None:
    where = target(server.port, server.user, server.password)
    start, _ = run_check(where)
    server.add_mail(b"Subject: huge\r\n\r\n" + b"x" * 70 + b"\r\n" * 3000)
    limits = CheckLimits(mail_bytes_max=2000, head_bytes_max=1000)
    _, report = run_check(where, start.cursor, limits=limits)
    assert report.subjects == ["huge"]
    assert report.got[0].truncated


def test_a_wrong_password_needs_the_user(server: Pymap) -> None:
    outcome = failed_check(target(server.port, server.user, "wrong"))
    assert (outcome.status, outcome.kind) == ("need_reauth", "login_refused")
