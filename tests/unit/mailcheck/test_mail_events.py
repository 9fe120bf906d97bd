"""The stored vocabulary of the mail domain and its types in the browser."""

import re
from pathlib import Path

import pytest

from huahuo.actors.domain.client_types import Types
from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck.events import (
    PUBLIC,
    Body,
    type_name,
)


def stored(type_: str, body: bytes, version: int = 1, stream: str = "user/7") -> StoredEvent:
    return StoredEvent(1, stream, 1, type_, body, version, 0, "", "", "", 0, "", b"")


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


@pytest.mark.parametrize("body", PUBLIC, ids=type_name)
def test_an_event_has_the_same_fields_in_the_browser(body: type[Body]) -> None:
    made = fields_of(Types(sent=False).inline(body, without=("type", "timestamp")))
    written = declared(type_name(body))
    if type_name(body) == "email_updated":
        del written["email"]  # of `email_added`, which it is part of
    assert written == made
