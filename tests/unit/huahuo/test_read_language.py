"""`audit query` and `replay` show texts of events in the reader's language, and JSON as they are stored."""

import json

import msgspec
import pytest

from huahuo.actors.plugins.past import Reader, together
from huahuo.actors.plugins.words import Language
from huahuo.app.application import Application
from huahuo.audit.commands import show_page
from huahuo.eventstore.audit.index import AuditPage, Counted
from huahuo.eventstore.audit.tables import Row
from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck import mail
from huahuo.replay.history.conditions import MISSING, Change
from huahuo.timetravel.look import Out

FIELDS = {
    "type": "check_progress",
    "email_id": 7,
    "progress": 100,
    "message": "没有找到新邮件",
    "check_id": 1,
    "timestamp": "2026-01-01T00:00:00Z",
}
BODY = json.dumps(FIELDS).encode()
PAST = mail().past


def _event(type_: str = "check_progress", body: bytes = BODY) -> StoredEvent:
    return StoredEvent(1, "user/42", 1, type_, body, 1, 0, "mailbox/7", "service", "", 0, "b", b"")


def _out(language: Language, *, as_json: bool = False) -> Out:
    return Out(as_json=as_json, past=PAST, language=language)


def _audited(language: Language, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> str:
    row = Row(1, "user/42", 1, "check_progress", "t", "", "", "", 0, "b", 1, msgspec.Raw(BODY))
    show_page(
        AuditPage([row], None),
        Counted(1, True, {}),
        PAST,
        Reader(PAST, language),
        as_json=as_json,
        recorded=False,
    )
    return capsys.readouterr().out


def test_a_row_of_the_audit_is_said_in_the_readers_language(capsys: pytest.CaptureFixture[str]) -> None:
    assert '"message":"no new mails"' in _audited("en", capsys)
    assert '"message":"没有找到新邮件"' in _audited("zh", capsys)


def test_an_event_that_is_replayed_is_said_in_the_readers_language(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _out("en").event(_event())
    _out("zh").event(_event())
    english, chinese = capsys.readouterr().out.splitlines()
    assert 'message="no new mails"' in english
    assert 'message="没有找到新邮件"' in chinese


def test_a_state_and_its_changes_are_said_in_the_readers_language(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {"message": "没有找到新邮件", "note": "没有找到新邮件"}
    _out("en").state({"emails": {"7": row}})
    _out("en").changes([Change(("message",), MISSING, "正在登录邮箱"), Change(("checks",), MISSING, row)])
    shown = capsys.readouterr().out
    assert 'emails.7.message = "no new mails"' in shown
    assert 'emails.7.note = "没有找到新邮件"' in shown
    assert 'message: "signing in"' in shown
    assert 'checks: {"message":"no new mails","note":"没有找到新邮件"}' in shown


def test_a_job_of_a_plugin_is_said_in_the_readers_language() -> None:
    past = together([Application().plugins()[0].past, PAST])
    fields = {"percent": 50, "message": "已导入 10 个邮箱，失败 0 行，共 20 行"}
    assert Reader(past, "en").fields("job_progress", fields)["message"] == (
        "mailboxes imported: 10, lines failed: 0, of 20"
    )
