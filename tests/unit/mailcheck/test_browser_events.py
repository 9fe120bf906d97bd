"""The browser client's types of mail's events have the fields that the service writes."""

import re
from pathlib import Path

import msgspec
import pytest

from huahuo.mailcheck.events import PUBLIC, Body, type_name

ROOT = Path(__file__).resolve().parents[3]
TYPES = (ROOT / "web" / "client" / "src" / "model" / "model.ts").read_text(encoding="utf-8")


def declared(name: str) -> set[str]:
    """The names of the fields of one entry of `EventTypes`."""
    table = TYPES[TYPES.index("export interface EventTypes") :]
    found = re.search(rf"^  {name}: (?P<fields>.*?);\n(?=  \w+: |}})", table, re.DOTALL | re.MULTILINE)
    assert found is not None, name
    text = re.sub(r"/\*\*.*?\*/", "", found["fields"])
    also = declared("email_added") if 'EventTypes["email_added"]' in text else set()
    return {*re.findall(r"(\w+)\??: ", text), *also}


@pytest.mark.parametrize("body", PUBLIC, ids=type_name)
def test_an_event_has_the_same_fields_in_the_browser(body: type[Body]) -> None:
    fields = {field.name for field in msgspec.structs.fields(body)} - {"timestamp"}
    more = {"email"} if type_name(body) == "email_updated" else set()  # of `email_added`, which it is part of
    assert declared(type_name(body)) - more == fields
