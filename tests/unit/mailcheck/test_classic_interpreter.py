"""The rules that FireMail's unmodified front end needs, one test each, on the translator alone."""

import pytest

from huahuo.mailcheck.classic import interpreter
from tests.support.models.firemail_talk import Talk

ADD = {"type": "add_email", "email": "a@example.com", "password": "canary", "mail_type": "imap"}


def test_rule_4_a_command_that_arrives_twice_is_passed_on_once_and_answered_twice() -> None:
    talk = Talk().signed_in()
    asked = talk.asks(ADD)
    assert talk.hear(dict(reversed(ADD.items()))) == ([], [])
    answers = talk.tell({"type": "success", "id": asked["id"], "email_id": 9, "message": "x"})
    assert [one["type"] for one in answers] == ["email_added", "email_added"]
    talk.now_s = interpreter.WITHIN_S
    assert talk.hear(ADD)[1] == answers[:1]
    talk.now_s = interpreter.WITHIN_S + 0.1
    assert talk.asks(ADD)["action"] == "add_email"


@pytest.mark.parametrize("status", ["ok", "error", "need_reauth", "cancelled"])
def test_rule_6_progress_ends_at_exactly_100_once_however_a_check_ends(status: str) -> None:
    talk = Talk().signed_in()
    told = [*talk.status("queued"), *talk.status("processing"), *talk.progress(60), *talk.progress(40)]
    told += [*talk.progress(100), *talk.status(status, "the end")]
    steps = [one["progress"] for one in told if one["type"] == "check_progress"]
    assert steps == [0, 0, 60, 60, 99, 100]
    errors = [one["message"] for one in told if one["type"] == "error"]
    assert errors == (["the end"] if status in {"error", "need_reauth"} else [])


def test_a_row_that_was_being_checked_when_the_connection_broke_is_told_how_it_stands() -> None:
    talk = Talk().signed_in()
    talk.status("processing")
    later = Talk(talk.tongue).signed_in()
    asked, _ = later.hear({"type": "get_all_emails"})
    assert (asked[1]["action"], asked[1]["email_ids"]) == ("firemail_progress", [7])
    data = [{"type": "check_progress", "email_id": 7, "progress": 100, "message": "done"}]
    assert later.tell({"type": "firemail_progress", "data": data, "id": asked[1]["id"]}) == data
    assert Talk(talk.tongue).signed_in().hear({"type": "get_all_emails"})[0][1]["email_ids"] == []


def test_a_mail_outside_of_a_check_lets_it_read_the_mailbox_at_most_once_a_second() -> None:
    talk = Talk().signed_in()
    first = talk.event("mail_received", mail_id=1, subject="s")
    assert [(one["progress"], one["email_id"]) for one in first] == [(100, 7)]
    assert talk.event("mail_received", mail_id=2, subject="s") == []
    talk.now_s = 1.0
    assert len(talk.event("mail_received", mail_id=3, subject="s")) == 1
    talk.status("processing")
    talk.now_s = 2.0
    assert talk.event("mail_received", mail_id=4, subject="s") == []


def test_memory_of_commands_that_may_be_repeated_is_bounded() -> None:
    repeats = interpreter.Repeats()
    for number in range(interpreter.KEPT_MAX + 5):
        repeats.seen(str(number).encode(), 0.0)
    assert len(repeats) == interpreter.KEPT_MAX
    long = [{"type": "import_result", "failed_details": ["x" * 1000] * 600}]
    for number in range(interpreter.KEPT_MAX, interpreter.KEPT_MAX + 5):
        repeats.answered(str(number).encode(), long)
        assert repeats.size_bytes <= interpreter.BYTES_MAX


def test_memory_of_running_checks_is_bounded() -> None:
    running = interpreter.Running()
    for number in range(interpreter.MAILBOXES_MAX + 5):
        running.told(42, number, 1)
    assert len(running.of(42)) == interpreter.MAILBOXES_MAX
    for user in range(2_000):
        running.told(f"u{user}", 1, 1)
    assert running.of("u0") == []
    assert running.of("u1999") == [1]


_LIST = {"type": "get_all_emails"}


def test_deleted_mailboxes_that_wait_are_bounded() -> None:
    elsewhere = interpreter.Elsewhere()
    told = 0
    for number in range(3 * interpreter.DELETED_MAX):
        elsewhere.deleted(number)
        told = max(told, *(len(one["email_ids"]) for one in elsewhere.due(0.0)), 0)
    assert told == interpreter.DELETED_MAX


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
