"""The rules that judge histories: each must see the history it is there for."""

from typing import Any

import msgspec
import pytest

from huahuo.eventstore.model import StoredEvent
from tests.support.models.mail_rules import broken_checks, broken_deletions, broken_mails, leaks


def history(*bodies: dict[str, Any]) -> list[StoredEvent]:
    """Events of these bodies; `stream` in one of them says where it stands."""
    events = []
    for n, body in enumerate(bodies, start=1):
        stream = body.pop("stream", "user/7")
        json = msgspec.json.encode(body)
        events.append(StoredEvent(n, stream, n, body["type"], json, 1, 0, "", "", "", 0, "", b""))
    return events


def progress(percent: int, check_id: int = 1, email_id: int = 1) -> dict[str, Any]:
    return {"type": "check_progress", "email_id": email_id, "check_id": check_id, "progress": percent}


def status(word: str, check_id: int = 1) -> dict[str, Any]:
    return {"type": "email_status_update", "email_id": 1, "check_id": check_id, "status": word}


def test_a_sound_check_breaks_nothing() -> None:
    events = history(
        status("queued"), status("processing"), progress(0), progress(50), progress(100), status("ok")
    )
    assert broken_checks(events, ended=True) == []


@pytest.mark.parametrize(
    "bodies",
    [
        (progress(50), progress(40)),
        (progress(101),),
        (progress(99), status("ok")),
        (status("ok"),),
        (progress(100), status("ok"), progress(100)),
        (progress(100), status("ok"), status("error")),
        (progress(100), status("ok"), status("processing")),
        (progress(1), progress(2, email_id=2)),
        (progress(100),),
    ],
)
def test_an_unsound_check_is_seen(bodies: tuple[dict[str, Any], ...]) -> None:
    assert broken_checks(history(*map(dict, bodies)), ended=True) != []


def test_what_is_said_of_no_mailbox_is_seen() -> None:
    added, deleted = {"type": "email_added", "email_id": 1}, {"type": "email_deleted", "email_id": 1}
    assert broken_deletions(history(dict(added), progress(1), dict(deleted))) == []
    assert broken_deletions(history(dict(added), dict(deleted), progress(1))) != []
    assert broken_deletions(history(progress(1))) != []


def cursor(*uids: tuple[int, int], uidvalidity: int = 1) -> dict[str, Any]:
    mails = [{"uid": uid, "mail_id": mail_id} for uid, mail_id in uids]
    return {"type": "cursor_moved", "stream": "mailbox/1", "uidvalidity": uidvalidity, "mails": mails}


def received(mail_id: int) -> dict[str, Any]:
    return {"type": "mail_received", "mail_id": mail_id}


@pytest.mark.parametrize(
    ("bodies", "sound"),
    [
        ((received(1), received(2), cursor((5, 1), (6, 2))), True),
        ((received(1), cursor((5, 1)), received(2), cursor((5, 2), uidvalidity=2)), True),
        ((received(1), cursor((5, 1)), received(2), cursor((5, 2))), False),
        ((received(1), received(1), cursor((5, 1))), False),
        ((received(1),), False),
        ((cursor((5, 1)),), False),
    ],
)
def test_a_mail_told_twice_or_never_is_seen(bodies: tuple[dict[str, Any], ...], sound: bool) -> None:
    added = {"type": "mailbox_added", "stream": "mailbox/1", "server": "imap.x.com"}
    assert (broken_mails(history(added, *map(dict, bodies))) == []) is sound


def test_a_leak_is_seen() -> None:
    assert leaks(["canary", "other"], b"...canary...") == ["canary"]
