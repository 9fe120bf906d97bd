"""Tags, notes and groups of mailboxes: what a change does, what is refused, what filters find."""

import pytest

from huahuo.actors.plugins.calls import Refusal
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.records import Success, Warned
from huahuo.mailcheck.roster.decider import NOTE_CHARS_MAX, TAGS_MAX, LabelEmails, Labels, SetGroupProxy
from tests.support.models.mail_book import USER, Book


def label(book: Book, *email_ids: int, **labels: object) -> object:
    return book.roster(USER, LabelEmails(email_ids, Labels(**labels))).reply  # type: ignore[arg-type]


def labelled() -> Book:
    """Mailboxes 1 (shop), 2 (shop and 工作, in a group, with a note) and 3 (none)."""
    book = Book()
    for name in "abc":
        book.add(f"{name}@example.com")
    label(book, 1, 2, add_tags=("shop",))
    label(book, 2, add_tags=("工作",), group="ops", note="for the Invoices")
    return book


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({}, "add_tags"),
        ({"add_tags": ("  ",)}, "add_tags"),
        ({"add_tags": ("x" * 33,)}, "add_tags"),
        ({"remove_tags": ("a\nb",)}, "remove_tags"),
        ({"group": "x" * 65}, "group"),
        ({"note": "x" * (NOTE_CHARS_MAX + 1)}, "note"),
        ({"note": "a\0b"}, "note"),
    ],
)
def test_labels_that_cannot_be_shown_are_refused_as_a_whole(labels: dict[str, object], field: str) -> None:
    book = labelled()
    before = len(book.events)
    reply = label(book, 1, **labels)
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.details, len(book.events)) == ("invalid_field", field, before)


def test_a_mailbox_with_too_many_tags_is_passed_over_and_named() -> None:
    book = labelled()
    label(book, 1, add_tags=tuple(str(n) for n in range(TAGS_MAX - 1)))
    reply = label(book, 1, 3, add_tags=("one more",))
    assert reply == Success(f"一个邮箱最多 {TAGS_MAX} 个标签", email_ids=[3], skipped=[1])
    assert isinstance(label(book, 1, add_tags=("again",)), Warned)


@pytest.mark.parametrize(
    ("group", "proxy", "field"),
    [("", None, "group"), ("x" * 65, None, "group"), ("ops", "ftp://h:1", "proxy")],
)
def test_a_group_without_a_name_or_a_proxy_that_is_none_is_refused(
    group: str, proxy: str | None, field: str
) -> None:
    reply = labelled().roster(USER, SetGroupProxy(group, None if proxy is None else Secret(proxy))).reply
    assert isinstance(reply, Refusal)
    assert str(reply.details).startswith(field)
