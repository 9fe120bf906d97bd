"""The rules that FireMail's unmodified front end needs, one test each, on the translator alone."""

from typing import Any

import pytest

from huahuo.mailcheck.classic import interpreter
from tests.support.models.firemail_talk import Talk

ADD = {"type": "add_email", "email": "a@example.com", "password": "canary", "mail_type": "imap"}


@pytest.mark.parametrize("code", [4003, 4503, 4507])
def test_rule_1_a_token_that_ends_later_is_the_same(code: int) -> None:
    talk = Talk().signed_in()
    assert [one["type"] for one in talk.tell({"type": "goaway", "code": code})] == ["error"]
    assert talk.it.close_code(code) == 1000


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013, 4000, 4008, 4012, 4013, 4408, 4504])
def test_rule_2_what_passes_never_closes_with_1000(code: int) -> None:
    assert Talk().it.close_code(code) in {1001, 1012, 1013}


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


def test_an_import_that_is_refused_ends_with_import_result_too() -> None:
    talk = Talk().signed_in()
    asked = talk.asks({"type": "import_emails", "data": "a@x.com----p\n\nb@x.com----q"})
    told = talk.tell({"type": "error", "code": "busy", "message": "why", "id": asked["id"]})
    assert [one["type"] for one in told] == ["error", "import_result"]
    [failed] = told[1]["failed_details"]
    assert (failed["reason"], told[1]["success"]) == ("why", 0)


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


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"type": "add_email", "email": "a@example.com"}, "邮箱地址和密码不能为空"),
        ({**ADD, "mail_type": "outlook"}, "Outlook邮箱需要提供Client ID和Refresh Token"),
        ({"type": "delete_emails", "email_ids": []}, "未提供邮箱ID"),
        ({"type": "check_emails"}, "未提供邮箱ID"),
        ({"type": "fly"}, "未知的消息类型: fly"),
        ({"type": "a password by mistake"}, "无效的消息格式"),
        ({"type": 1}, "无效的消息格式"),
        ([], "无效的消息格式"),
        (None, "无效的消息格式"),
    ],
)
def test_what_cannot_be_done_is_said_in_its_words(message: object, said: str) -> None:
    assert Talk().signed_in().hear(message) == ([], [{"type": "error", "message": said}])


def test_checks_that_run_already_are_told_apart() -> None:
    talk = Talk().signed_in()
    asked = talk.asks({"type": "check_emails", "email_ids": [1, 2]})
    reply = {"type": "success", "accepted": [1], "skipped": [2], "message": "x", "id": asked["id"]}
    assert [(one["type"], one["message"]) for one in talk.tell(reply)] == [
        ("info", "跳过已经在处理中的 1 个邮箱"),
        ("success", "开始检查 1 个邮箱"),
    ]


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


def test_a_flood_of_added_mailboxes_makes_the_page_read_its_list_a_few_times() -> None:
    _talk, told = flood("email_added", page_asks=True)
    assert {one["type"] for one in told} == {"email_added"}
    assert len(told) <= interpreter.AT_ONCE_MAX + FLOOD / A_SECOND / interpreter.EVERY_S


def test_the_last_mailboxes_of_a_flood_are_told_with_a_heartbeat() -> None:
    talk, told = flood("email_added", page_asks=False)
    talk.now_s += interpreter.EVERY_S
    asked, [last] = talk.hear({"type": "heartbeat"})
    assert asked == [{"action": "heartbeat"}]
    assert last["type"] == "email_added"
    assert last["email_id"] == FLOOD - 1
    assert "个邮箱" in last["message"]
    assert last not in told
    talk.now_s += interpreter.EVERY_S
    assert talk.hear({"type": "heartbeat"}) == (asked, [])


def test_what_a_list_has_that_the_page_asks_for_is_not_told_again() -> None:
    for kind in ("email_added", "email_deleted"):
        talk, _told = flood(kind, page_asks=False)
        talk.hear(_LIST)
        talk.now_s += interpreter.EVERY_S
        assert talk.hear({"type": "heartbeat"})[1] == []


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


def test_mailboxes_that_another_client_adds_during_a_refused_import_are_told() -> None:
    talk = Talk().signed_in()
    asked = talk.asks({"type": "import_emails", "data": "a----b"})
    talk.event("email_added", 7, email="other@example.com")
    told = talk.tell({"type": "error", "code": "busy", "message": "why", "id": asked["id"]})
    assert told[-1] == {"type": "email_added", "message": "邮箱 other@example.com 添加成功", "email_id": 7}
