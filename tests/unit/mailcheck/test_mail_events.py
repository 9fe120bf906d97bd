"""The stored vocabulary of the mail domain."""

from typing import Any

import msgspec
import pytest

from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck import events
from huahuo.mailcheck.events import CheckProgress, EmailUpdated, MailboxDeleted, internal, public, read

NOW = "2026-11-24T10:31:07.114Z"


def stored(type_: str, body: bytes, version: int = 1, stream: str = "user/7") -> StoredEvent:
    return StoredEvent(1, stream, 1, type_, body, version, 0, "", "", "", 0, "", b"")


def test_public_names_are_those_of_the_protocol() -> None:
    assert set(events.PUBLIC_TYPES) == {
        "email_added",
        "email_updated",
        "email_deleted",
        "email_status_update",
        "check_progress",
        "mail_received",
    }


def test_no_two_types_have_one_name() -> None:
    assert len({events.type_name(body) for body in (*events.PUBLIC, *events.INTERNAL)}) == 24


def test_a_body_is_the_complete_object_that_goes_over_the_wire() -> None:
    event = public(
        7, 3, CheckProgress(timestamp=NOW, email_id=3, progress=75, message="正在检查邮件 15/20", check_id=88)
    )
    assert (event.stream, event.type, event.entity) == ("user/7", "check_progress", "mailbox/3")
    assert msgspec.json.decode(event.body) == {
        "type": "check_progress",
        "timestamp": NOW,
        "email_id": 3,
        "progress": 75,
        "message": "正在检查邮件 15/20",
        "check_id": 88,
    }


def test_an_update_carries_only_what_changed() -> None:
    event = public(7, 3, EmailUpdated(timestamp=NOW, email_id=3, port=143))
    fields = msgspec.json.decode(event.body, type=dict[str, Any])
    assert set(fields) == {"type", "timestamp", "email_id", "port"}


def test_an_internal_fact_stands_on_the_mailbox_s_own_stream() -> None:
    event = internal(3, MailboxDeleted(timestamp=NOW))
    assert (event.stream, event.entity, event.type) == ("mailbox/3", "mailbox/3", "mailbox_deleted")


@pytest.mark.parametrize("body", [*events.PUBLIC, *events.INTERNAL])
def test_what_was_written_is_read_back(body: type[events.Body]) -> None:
    samples: dict[Any, Any] = {int: 5, str: "x", bool: True, UserId: 5, int | str: 5}
    fields: dict[str, Any] = {
        field.name: samples.get(field.type, ())
        for field in msgspec.structs.fields(body)
        if field.required or field.type in samples
    }
    written = body(**fields)
    new = internal(3, written)
    assert read(stored(new.type, new.body, new.version)) == written


def test_events_of_others_are_not_ours_to_read() -> None:
    assert read(stored("system_notification", b'{"type":"system_notification"}')) is None


def test_a_body_that_is_not_its_type_s_is_refused() -> None:
    with pytest.raises(ValueError, match="email_id"):
        read(stored("email_deleted", b'{"type":"email_deleted","timestamp":"x"}'))


def test_an_unknown_field_of_newer_code_is_passed_over() -> None:
    body = b'{"type":"email_deleted","timestamp":"x","email_id":3,"why":"tidy"}'
    assert read(stored("email_deleted", body, version=2)) == events.EmailDeleted(timestamp="x", email_id=3)
