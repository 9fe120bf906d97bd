"""`huahuo tail`: what it shows, in which language, and that nothing it shows can act on the terminal."""

import io
import json

import pytest
from rich.console import Console

from huahuo.actors.plugins.past import Reader
from huahuo.actors.plugins.words import Language
from huahuo.cli import tail
from huahuo.errors import ConfigError
from huahuo.mailcheck import mail
from huahuo.mailcheck.servers.faults import KINDS
from huahuo.terminal import printable
from huahuo.transport.client.model import Event


def _numbered(seq: int, kind: str, **fields: object) -> Event:
    return Event("user/42", seq, kind, {"type": kind, **fields})


def _shown(*events: Event) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None, height=30)
    with tail.Bars(console) as bars:
        for event in events:
            bars.event(event)
    return out.getvalue()


@pytest.mark.parametrize("given", ["-1", "1.5", "tail", "", "１７"])
def test_any_other_place_is_refused(given: str) -> None:
    with pytest.raises(ConfigError):
        tail.position(given)


def test_text_that_could_act_on_the_terminal_becomes_escapes() -> None:
    assert printable("邮箱 ok\x1b[2J\x9b\u202e\U000e0001") == (
        "邮箱 ok\\u001b[2J\\u009b\\u202e\\udb40\\udc01"
    )


def test_a_json_line_is_still_json_after_escaping() -> None:
    line = printable(tail.json_line(_numbered(3, "mail_received", subject="\x1b[2J\x7f\u202e'\"")))
    assert json.loads(line)["data"]["subject"] == "\x1b[2J\x7f\u202e'\""
    assert line.isprintable()


def test_a_running_check_is_a_bar_with_the_mailboxs_name() -> None:
    shown = _shown(
        _numbered(1, "email_added", email_id=7, email="alice@example.com"),
        _numbered(2, "check_progress", email_id=7, progress=40, message="正在检查邮件 2/5"),
    )
    assert "alice@example.com" in shown
    assert "40%" in shown
    assert "正在检查邮件 2/5" in shown


def test_a_snapshot_gives_the_mailboxes_their_names() -> None:
    rows = [{"id": 7, "email": "bob@example.com"}]
    shown = _shown(
        _numbered(9, "snapshot", state={"emails": rows}, outcome="snapshot"),
        _numbered(10, "email_status_update", email_id=7, status="ok", message="检查完成"),
    )
    assert "state after 9: 1 mailboxes" in shown
    assert "bob@example.com: ok 检查完成" in shown


def test_the_number_of_bars_has_a_bound() -> None:
    out = io.StringIO()
    with tail.Bars(Console(file=out, force_terminal=True, width=100)) as bars:
        for mailbox in range(tail.BARS_MAX + 5):
            bars.event(_numbered(mailbox + 1, "check_progress", email_id=mailbox, progress=1, message=""))
        assert len(bars) == tail.BARS_MAX
        bars.event(_numbered(99, "email_status_update", email_id=0, status="cancelled", message=""))
        assert len(bars) == tail.BARS_MAX - 1


def test_markup_and_control_characters_of_a_mail_are_only_text() -> None:
    shown = _shown(
        _numbered(1, "mail_received", email_id=7, subject="[red]x[/red]\x1b]0;title\x07", sender="s")
    )
    assert "[red]x[/red]\\u001b]0;title\\u0007" in shown


def _told(kind: str, **fields: object) -> Event:
    return Event("user/42", 3, kind, {"type": kind, **fields})


def _line(language: Language, event: Event) -> str:
    return tail.plain_line(tail.said(event, Reader(mail().past, language)))


def test_a_failure_is_said_in_one_language_with_the_servers_own_words() -> None:
    kind = KINDS["throttled"]
    event = _told(
        "email_status_update", email_id=7, message=f"{kind.message}: NO 请稍后 (later)", advice=kind.advice
    )
    english, chinese = _line("en", event), _line("zh", event)
    assert f'"message":"{kind.english}: NO 请稍后 (later)"' in english
    assert f'"advice":"{kind.advice_english}"' in english
    assert f'"message":"{kind.chinese}: NO 请稍后 (later)"' in chinese
    assert f'"advice":"{kind.advice_chinese}"' in chinese


def test_a_snapshots_rows_are_said_too() -> None:
    rows = [{"id": 7, "email": "a@b.com", "message": "没有找到新邮件", "note": "没有找到新邮件"}]
    line = _line("en", _told("snapshot", state={"emails": rows}))
    assert '"message":"no new mails","note":"没有找到新邮件"' in line
