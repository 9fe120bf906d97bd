"""The table of kinds of messages is what the server sends, the browser's types say, and the page tells."""

import msgspec
import pytest

from huahuo.actors.domain.storable import NO_TYPES
from huahuo.transport.client.commands import parse
from huahuo.transport.protocol.kinds import KINDS, NAMES, Kind, name_of
from scripts import kinds_page
from tests.support.drivers.transcripts import FOLDER, read

SENT = [
    step.frame for path in sorted(FOLDER.glob("*.jsonl")) for step in read(path)[1] if step.origin == "server"
]


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_the_server_sends_a_kind_with_the_fields_of_the_table(kind: type[Kind]) -> None:
    fields = msgspec.structs.fields(kind)
    needed = {field.name for field in fields if field.required}
    for frame in (frame for frame in SENT if frame.get("type") == name_of(kind)):
        assert needed <= frame.keys() - {"type"} <= {field.name for field in fields}


def test_the_python_client_knows_each_kind_that_the_server_sends() -> None:
    known = [parse(msgspec.json.encode(frame)) for frame in SENT if frame["type"] in NAMES]
    assert {type(message) for message in known} == set(KINDS)


def test_no_event_may_be_published_under_the_name_of_a_kind() -> None:
    assert NAMES <= NO_TYPES


def test_the_browser_client_has_the_types_of_the_table() -> None:
    assert kinds_page.TYPES.read_text(encoding="utf-8") == kinds_page.browser_types(), "run the script"


def test_an_event_may_not_be_declared_under_the_name_of_a_kind() -> None:
    assert kinds_page.RESERVED.read_text(encoding="utf-8") == kinds_page.reserved_names(), "run the script"


def test_the_protocol_page_shows_the_kinds_of_the_table() -> None:
    page = kinds_page.PAGE.read_text(encoding="utf-8")
    assert kinds_page.with_table(page) == page, "run the script"
