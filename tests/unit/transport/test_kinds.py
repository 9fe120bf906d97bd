"""The table of kinds of messages is what the server sends, the browser's types say, and the page tells."""

import msgspec
import pytest

from huahuo.actors.domain.storable import NO_TYPES
from huahuo.transport.protocol.kinds import KINDS, NAMES, Kind, name_of
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


def test_no_event_may_be_published_under_the_name_of_a_kind() -> None:
    assert NAMES <= NO_TYPES
