"""What FireMail's front end is told when other clients of its user add and delete mailboxes."""

from typing import Any

import pytest

from huahuo.mailcheck.classic.interpreter import AT_ONCE_MAX, DELETED_MAX, EVERY_S, Elsewhere
from tests.support.models.firemail_talk import Talk

FLOOD = 20_000
A_SECOND = 2_000
_LIST = {"type": "get_all_emails"}


def flood(kind: str, *, page_asks: bool) -> tuple[Talk, list[dict[str, Any]]]:
    """A page, and what it was told while another client changed 20,000 mailboxes in ten seconds."""
    talk = Talk().signed_in()
    told: list[dict[str, Any]] = []
    for number in range(FLOOD):
        talk.now_s = number / A_SECOND
        said = talk.event(kind, number, email=f"u{number}@example.com")
        if said and page_asks:
            talk.hear(_LIST)
        told += said
    return talk, told


def test_mailboxes_that_another_client_adds_one_by_one_are_told_at_once() -> None:
    talk = Talk().signed_in()
    for number in range(AT_ONCE_MAX):
        [told] = talk.event("email_added", number, email="a@example.com")
        assert told == {"type": "email_added", "message": "邮箱 a@example.com 添加成功", "email_id": number}
        talk.hear(_LIST)


def test_a_flood_of_added_mailboxes_makes_the_page_read_its_list_a_few_times() -> None:
    _talk, told = flood("email_added", page_asks=True)
    assert {one["type"] for one in told} == {"email_added"}
    assert len(told) <= AT_ONCE_MAX + FLOOD / A_SECOND / EVERY_S


def test_a_page_that_does_not_ask_for_its_list_is_told_every_two_seconds() -> None:
    _talk, told = flood("email_added", page_asks=False)
    assert len(told) == FLOOD / A_SECOND / EVERY_S


def test_the_last_mailboxes_of_a_flood_are_told_with_a_heartbeat() -> None:
    talk, told = flood("email_added", page_asks=False)
    talk.now_s += EVERY_S
    asked, [last] = talk.hear({"type": "heartbeat"})
    assert asked == [{"action": "heartbeat"}]
    assert last["type"] == "email_added"
    assert last["email_id"] == FLOOD - 1
    assert "个邮箱" in last["message"]
    assert last not in told
    talk.now_s += EVERY_S
    assert talk.hear({"type": "heartbeat"}) == (asked, [])


def test_what_a_list_has_that_the_page_asks_for_is_not_told_again() -> None:
    for kind in ("email_added", "email_deleted"):
        talk, _told = flood(kind, page_asks=False)
        talk.hear(_LIST)
        talk.now_s += EVERY_S
        assert talk.hear({"type": "heartbeat"})[1] == []


def test_a_flood_of_deleted_mailboxes_is_told_in_a_few_messages_that_name_each_once() -> None:
    talk, told = flood("email_deleted", page_asks=False)
    talk.now_s += EVERY_S
    told += talk.hear({"type": "heartbeat"})[1]
    assert [one for message in told for one in message["email_ids"]] == list(range(FLOOD))
    assert len(told) <= 1 + AT_ONCE_MAX + FLOOD / A_SECOND / EVERY_S


def test_deleted_mailboxes_that_wait_are_bounded() -> None:
    elsewhere = Elsewhere()
    told = 0
    for number in range(3 * DELETED_MAX):
        elsewhere.deleted(number)
        told = max(told, *(len(one["email_ids"]) for one in elsewhere.due(0.0)), 0)
    assert told == DELETED_MAX


def test_a_refused_request_for_the_list_is_told_with_its_details() -> None:
    talk = Talk().signed_in()
    number = talk.hear(_LIST)[0][0]["id"]
    refused = {"type": "error", "code": "invalid_field", "message": "why", "details": "where", "id": number}
    assert talk.tell(refused) == [{"type": "error", "message": "why（where）"}]


@pytest.mark.parametrize("success", [0, 2])
def test_mailboxes_that_another_client_adds_during_an_import_leave_later_ones_told(success: int) -> None:
    talk = Talk().signed_in()
    asked = talk.asks({"type": "import_emails", "data": "a----b"})
    for number in range(3 + success):
        assert not talk.event("email_added", number, email=f"u{number}@example.com")
    counts = {"total": 2, "success": success, "failed": 2 - success, "failed_details": []}
    told = talk.tell({"type": "import_result", **counts, "id": asked["id"]})
    added = {"type": "email_added", "message": "已添加 3 个邮箱", "email_id": 2}
    assert [one for one in told if one["type"] == "email_added"] == ([] if success else [added])
    for number in range(10, 12):
        talk.hear(_LIST)
        [later] = talk.event("email_added", number, email="later@example.com")
        assert later["email_id"] == number


def test_mailboxes_that_another_client_adds_during_a_refused_import_are_told() -> None:
    talk = Talk().signed_in()
    asked = talk.asks({"type": "import_emails", "data": "a----b"})
    talk.event("email_added", 7, email="other@example.com")
    told = talk.tell({"type": "error", "code": "busy", "message": "why", "id": asked["id"]})
    assert told[-1] == {"type": "email_added", "message": "邮箱 other@example.com 添加成功", "email_id": 7}
