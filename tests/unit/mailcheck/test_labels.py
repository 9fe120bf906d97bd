"""Tags, notes and groups of mailboxes: what a change does, what is refused, what filters find."""

import msgspec
import pytest

from huahuo.actors.plugins.calls import Refusal
from huahuo.eventstore.model import Secret
from huahuo.mailcheck import zh
from huahuo.mailcheck.api.mailbox_list import Filter
from huahuo.mailcheck.records import Success, Warned
from huahuo.mailcheck.roster.decider import NOTE_CHARS_MAX, TAGS_MAX, LabelEmails, Labels, SetGroupProxy
from tests.support.models.mail_book import USER, Book

U = f"user/{USER}"


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


def found(book: Book, **given: object) -> list[int]:
    admits = Filter(**given).admits()  # type: ignore[arg-type]
    assert admits is not None
    return [number for number, row in book.roster_state(USER).rows.items() if admits(row)]


def test_labels_are_one_event_for_each_mailbox_with_what_changed() -> None:
    book = labelled()
    reply = label(book, 1, 2, 3, add_tags=(" shop ", "new"), group="ops")
    assert reply == Success("已更新 3 个邮箱的标签", email_ids=[1, 2, 3])
    assert book.said(U)[-3:] == [
        {"type": "email_updated", "email_id": 1, "tags": ["shop", "new"], "group": "ops"},
        {"type": "email_updated", "email_id": 2, "tags": ["shop", "工作", "new"]},
        {"type": "email_updated", "email_id": 3, "tags": ["shop", "new"], "group": "ops"},
    ]


def test_a_tag_is_one_whatever_its_case() -> None:
    book = labelled()
    assert label(book, 1, add_tags=("SHOP",)) == Success("已更新 0 个邮箱的标签", email_ids=[])
    label(book, 2, remove_tags=("Shop",))
    assert book.roster_state(USER).rows[2].tags == ("工作",)


def test_what_is_taken_off_is_no_field_of_the_row_any_more() -> None:
    book = labelled()
    label(book, 2, remove_tags=("shop", "工作"), note="", group="")
    shown = msgspec.to_builtins(book.roster_state(USER).rows[2])
    assert {"tags", "note", "group"}.isdisjoint(shown)
    assert found(book, tag="") == [2, 3]


def test_filters_find_labels() -> None:
    book = labelled()
    assert found(book, tag="SHOP") == [1, 2]
    assert found(book, tag=("工作", "")) == [2, 3]
    assert found(book, group="ops") == [2]
    assert found(book, group="") == [1, 3]
    assert found(book, text="invoices") == [2]
    assert found(book, tag="shop", group="") == [1]


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


def test_another_users_mailboxes_are_left_alone() -> None:
    book = labelled()
    assert book.roster(USER + 1, LabelEmails((1,), Labels(add_tags=("x",)))).reply == Success(
        "已更新 0 个邮箱的标签", email_ids=[]
    )


def test_the_proxy_of_a_group_is_sealed_and_in_no_event() -> None:
    book = labelled()
    decision = book.roster(USER, SetGroupProxy(" ops ", Secret("socks5://u:canary@proxy.example.com:1080")))
    assert decision.reply == Success(zh.GROUP_PROXY_SET)
    assert book.said(f"roster/{USER}")[-1] == {"type": "group_proxy_set", "group": "ops", "on": True}
    assert [put.owner for put in decision.secrets] == [f"roster/{USER}"]
    assert b"canary" not in b"".join(event.body for event in decision.events)
    taken = book.roster(USER, SetGroupProxy("ops", None))
    assert taken.drop_secrets == ((decision.secrets[0].owner, decision.secrets[0].name),)
    assert book.table("group_proxies") == []


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
