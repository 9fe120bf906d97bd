"""What mail says in its events is shown in the language of the terminal; what users wrote stays."""

import io
from collections.abc import Mapping

import pytest
from rich.console import Console

from huahuo.actors.plugins.past import Reader
from huahuo.actors.plugins.words import Language
from huahuo.cli import tail
from huahuo.mailcheck import mail
from huahuo.mailcheck.servers.faults import KINDS
from huahuo.terminal import language_in
from huahuo.transport.client.model import Event


def _event(kind: str, **fields: object) -> Event:
    return Event("user/42", 3, kind, {"type": kind, **fields})


def _shown(language: Language, *events: Event) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200, color_system=None, height=30)
    with tail.Bars(console, Reader(mail().past, language)) as bars:
        for event in events:
            bars.event(event)
    return out.getvalue()


def _line(language: Language, event: Event) -> str:
    return tail.plain_line(tail.said(event, Reader(mail().past, language)))


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh"}, "zh"),
        ({"LANG": "zh_TW@euro"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "C"}, "en"),
        ({"LC_ALL": "en_GB.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "zh_CN", "LANG": "en_US"}, "zh"),
        ({}, "en"),
    ],
)
def test_the_locale_says_the_language_of_the_terminal(environ: Mapping[str, str], language: Language) -> None:
    assert language_in(environ) == language


def test_progress_and_end_of_a_check_are_said_in_the_readers_language() -> None:
    events = (
        _event("check_progress", email_id=7, progress=20, message="正在选择文件夹 INBOX"),
        _event("email_status_update", email_id=7, status="ok", message="检查完成，共 3 封新邮件"),
    )
    assert "mailbox 7: ok done, new mails: 3" in _shown("en", *events)
    assert "opening the folder INBOX" in _shown("en", *events[:1])
    assert "mailbox 7: ok 检查完成，共 3 封新邮件" in _shown("zh", *events)


def test_a_failure_is_said_in_one_language_with_the_servers_own_words() -> None:
    kind = KINDS["throttled"]
    event = _event(
        "email_status_update", email_id=7, message=f"{kind.message}: NO 请稍后 (later)", advice=kind.advice
    )
    english, chinese = _line("en", event), _line("zh", event)
    assert f'"message":"{kind.english}: NO 请稍后 (later)"' in english
    assert f'"advice":"{kind.advice_english}"' in english
    assert f'"message":"{kind.chinese}: NO 请稍后 (later)"' in chinese
    assert f'"advice":"{kind.advice_chinese}"' in chinese


@pytest.mark.parametrize("code", KINDS)
def test_each_failure_is_said_in_either_language(code: str) -> None:
    kind, say = KINDS[code], mail().past.say
    assert say(kind.message, "en").isascii()
    assert say(kind.message, "zh") == kind.messages[0]


def test_what_users_and_senders_wrote_is_never_said_in_other_words() -> None:
    mail_received = _event(
        "mail_received", subject="登录成功", sender="没有找到新邮件", message="没有找到新邮件"
    )
    assert _line("en", mail_received) == tail.plain_line(mail_received)
    own = _event("email_status_update", status="error", message="本公司的系统正在维护 (see the intranet)")
    assert _line("en", own) == tail.plain_line(own)


def test_a_snapshots_rows_are_said_too() -> None:
    rows = [{"id": 7, "email": "a@b.com", "message": "没有找到新邮件", "note": "没有找到新邮件"}]
    line = _line("en", _event("snapshot", state={"emails": rows}))
    assert '"message":"no new mails","note":"没有找到新邮件"' in line
