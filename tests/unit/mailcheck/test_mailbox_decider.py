"""A mailbox's decisions about its checks. Given events, when a command, then."""

import msgspec
import pytest

from huahuo.mailcheck.mailbox import decider
from huahuo.mailcheck.records import (
    UNREAD,
    Unread,
    rfc3339,
)
from huahuo.mailcheck.roster.decider import CheckEmails
from tests.support.models.mail_book import NOW_MS, USER, Book, cursor, mail

U = f"user/{USER}"
M = "mailbox/1"


@pytest.fixture
def book() -> Book:
    """With mailbox 1."""
    book = Book()
    book.add("a@x.com")
    return book


def queued() -> Book:
    """A book with mailbox 1 and its check 1, queued."""
    book = Book()
    book.add("a@x.com")
    book.roster(USER, CheckEmails((1,)))
    return book


def running() -> Book:
    """The same, the check running."""
    book = queued()
    assert isinstance(book.mailbox(1, decider.Begin(1)), decider.Plan)
    return book


# -- the way of a check -------------------------------------------------------------------------


def test_the_check_of_a_living_node_is_left_to_it_and_that_of_an_ended_one_goes_on() -> None:
    book = queued()
    living = frozenset({"a.1", "b.1"})
    assert isinstance(book.mailbox(1, decider.Begin(1, "a.1", living)), decider.Plan)
    count = len(book.events)
    assert book.mailbox(1, decider.Begin(1, "b.1", living)) == decider.CheckHeld("a.1")
    assert isinstance(book.mailbox(1, decider.Begin(1, "a.1", living)), decider.Plan)
    assert len(book.events) == count, "nothing is recorded of either"
    assert isinstance(book.mailbox(1, decider.Begin(1, "b.1", frozenset({"b.1"}))), decider.Plan)
    assert book.said(M)[-1] == {"type": "check_started", "check_id": 1, "implicit": False, "by": "b.1"}
    assert len(book.events) == count + 1, "the user is told nothing twice"
    assert book.mailbox(1, decider.Begin(1, "a.2", frozenset({"a.2", "b.1"}))) == decider.CheckHeld("b.1")


def test_a_message_fits_into_json_and_into_its_bound() -> None:
    book = running()
    book.mailbox(1, decider.Progress(1, 5, "x\ud800\0" + "y" * 2000))
    told = book.said(U)[-1]["message"]
    assert told.startswith("x?y")
    assert len(told) <= 1000


# -- mails --------------------------------------------------------------------------------------


def test_which_mails_are_unread_is_told_when_it_changed_and_kept_for_lists(book: Book) -> None:
    before = book.heads[M]
    for seen in (
        decider.SeeUnread("INBOX", 1, ""),
        decider.SeeUnread("INBOX", 1, "1:3"),
        decider.SeeUnread("INBOX", 1, "1:3"),
        decider.SeeUnread("INBOX", 2, "1:3"),
    ):
        book.mailbox(1, seen)
    assert [(e["uidvalidity"], e["uids"]) for e in book.said(M, before)] == [(1, "1:3"), (2, "1:3")]
    kept = [value for (table, _, _), value in book.rows.items() if table == UNREAD]
    assert [msgspec.json.decode(one, type=Unread) for one in kept] == [Unread("INBOX", 2, "1:3")]


@pytest.mark.parametrize(
    ("date_ms", "internal_ms", "received_ms"),
    [
        (NOW_MS - 5, NOW_MS - 9, NOW_MS - 9),
        (NOW_MS - 8 * 3_600_000, NOW_MS - 9, NOW_MS - 9),
        (NOW_MS - 900 * 86_400_000, NOW_MS - 9, NOW_MS - 900 * 86_400_000),
        (NOW_MS - 5, None, NOW_MS - 5),
        (NOW_MS + 10 * 86_400_000, NOW_MS - 9, NOW_MS - 9),
        (0, NOW_MS - 9, NOW_MS - 9),
        (-5, None, NOW_MS + 4000),
    ],
    ids=["the server's", "another zone", "a moved mailbox", "its own", "in the future", "in 1970", "neither"],
)
def test_a_mail_s_time_is_the_server_s_unless_the_mail_is_much_older_there(
    date_ms: int, internal_ms: int | None, received_ms: int
) -> None:
    book = running()
    book.mailbox(
        1, decider.MailsFound(1, (mail(1, date_ms=date_ms, internal_date_ms=internal_ms),), cursor(1))
    )
    assert book.said(U)[-1]["received_time"] == rfc3339(received_ms)


def test_texts_of_a_mail_fit_into_json_and_into_their_bounds() -> None:
    book = running()
    book.mailbox(
        1, decider.MailsFound(1, (mail(1, "a\ud800b\0c" + "x" * 5000, sender="s" * 5000),), cursor(1))
    )
    told = book.said(U)[-1]
    assert told["subject"].startswith("a?bc")
    assert (len(told["subject"]) <= 1000, len(told["sender"])) == (True, 500)


# -- the fold -----------------------------------------------------------------------------------


def test_a_keyframe_holds_all_that_decisions_need() -> None:
    book = running()
    book.mailbox(1, decider.Progress(1, 30, ""))
    book.mailbox(1, decider.MailsFound(1, (mail(1),), cursor(1)))
    state = book.mailbox_state(1)
    assert book.mailboxes.load(M, book.mailboxes.dump(state)) == state


def test_another_mailbox_s_keyframe_is_refused() -> None:
    book = running()
    with pytest.raises(ValueError, match="another"):
        book.mailboxes.load("mailbox/2", book.mailboxes.dump(book.mailbox_state(1)))
