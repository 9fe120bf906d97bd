"""The stored vocabulary of the mail domain and its types in the browser."""

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from huahuo.actors.domain.client_types import Types
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck import events
from huahuo.mailcheck.events import (
    PUBLIC,
    Body,
    internal,
    read,
    type_name,
)
from huahuo.mailcheck.mailbox.decider import ReportedStatus
from huahuo.mailcheck.servers.faults import ErrorClass


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


ROOT = Path(__file__).resolve().parents[3]
TYPES = (ROOT / "web" / "client" / "src" / "model" / "model.ts").read_text(encoding="utf-8")
NARROWER = {"MailStatus": "string", "MailType": "string", "ErrorClass": "string"}

type Fields = dict[str, tuple[bool, str]]
"""Of each field, whether it may be absent, and its type."""


def fields_of(text: str) -> Fields:
    """The fields of an object type."""
    text = re.sub(r"/\*\*.*?\*/", "", text)
    found = re.findall(r"(\w+)(\??): ([^;}]+?)\s*(?=[;}])", text)
    return {name: (bool(absent), NARROWER.get(type_, type_)) for name, absent, type_ in found}


def declared(name: str) -> Fields:
    """The fields of one entry of `EventTypes`."""
    table = TYPES[TYPES.index("export interface EventTypes") :]
    found = re.search(rf"^  {name}: (?P<fields>.*?);\n(?=  \w+: |}})", table, re.DOTALL | re.MULTILINE)
    assert found is not None, name
    fields = fields_of(found["fields"])
    if 'Partial<EventTypes["email_added"]>' in found["fields"]:
        fields = {field: (True, type_) for field, (_, type_) in declared("email_added").items()} | fields
    return fields


def values_of(name: str) -> set[str]:
    """The texts of a union."""
    found = re.search(rf"^export type {name} = (?P<values>.*?);$", TYPES, re.MULTILINE)
    assert found is not None, name
    return set(re.findall(r'"(\w+)"', found["values"]))


@pytest.mark.parametrize("body", PUBLIC, ids=type_name)
def test_an_event_has_the_same_fields_in_the_browser(body: type[Body]) -> None:
    made = fields_of(Types(sent=False).inline(body, without=("type", "timestamp")))
    written = declared(type_name(body))
    if type_name(body) == "email_updated":
        del written["email"]  # of `email_added`, which it is part of
    assert written == made


def test_the_unions_have_the_texts_that_the_service_writes_today() -> None:
    assert values_of("MailStatus") == {"idle", *get_args(ReportedStatus.__value__)}
    assert values_of("ErrorClass") == set(get_args(ErrorClass.__value__))
