"""The JSON on the protocol page is what the golden conversations say: the same messages, fields and kinds."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from huahuo.mailcheck.api.mailbox_list import Sort
from huahuo.mailcheck.api.params import ListParams
from huahuo.mailcheck.records import EmailsPage, Row
from huahuo.transport.protocol.incoming import EVENTS_MAX
from huahuo.transport.protocol.kinds import Assembly

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
TRANSCRIPTS = sorted((ROOT / "tests" / "transcripts").glob("*.jsonl"))


OWN = {
    "authenticate", "subscribe", "unsubscribe", "ack", "authentication_result", "subscribed", "unsubscribed",
    "events", "live", "snapshot", "skipped", "lag", "error", "heartbeat", "heartbeat_response", "goaway",
    "token_expiring",
}  # fmt: skip
"""The protocol's own messages; commands and their replies are the domain's."""


def _frames() -> Iterator[dict[str, Any]]:
    for path in TRANSCRIPTS:
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            step = json.loads(line)
            if step["from"] in {"client", "server"}:
                yield step["frame"]


def _tag(message: dict[str, Any]) -> str:
    return str(message.get("action") or message.get("type"))


def _all_examples() -> list[dict[str, Any]]:
    """Whole messages: those of code blocks, and those in running text that are JSON as they stand."""
    texts = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    decoder = json.JSONDecoder()
    found: list[Any] = []
    for text in texts:
        rest = text.strip()
        with contextlib.suppress(ValueError):  # behind the last whole message: a piece or a sketch of one
            while rest:
                message, end = decoder.raw_decode(rest)
                found.append(message)
                rest = rest[end:].strip()
    for text in re.findall(r"`(\{\"(?:action|type)\"[^`]*\})`", PAGE):
        with contextlib.suppress(ValueError):
            found.append(json.loads(text.replace("…", '"…"')))
    return [message for message in found if isinstance(message, dict)]


def _examples() -> list[dict[str, Any]]:
    """Those of the protocol itself."""
    return [message for message in _all_examples() if _tag(message) in OWN]


def _kinds(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _kinds(one) for name, one in value.items()}
    if isinstance(value, list):
        return "list"
    return "number" if type(value) in {int, float} else type(value).__name__


SPOKEN: dict[str, dict[str, set[str]]] = {}
for _frame in _frames():
    for _name, _value in _frame.items():
        SPOKEN.setdefault(_tag(_frame), {}).setdefault(_name, set()).add(str(_kinds(_value))[:4])


@pytest.mark.parametrize("example", _examples(), ids=_tag)
def test_an_example_is_a_message_of_the_golden_conversations(example: dict[str, Any]) -> None:
    spoken = SPOKEN.get(_tag(example))
    assert spoken is not None, f"no conversation has a {_tag(example)}"
    for name, value in example.items():
        assert name in spoken, f"{_tag(example)}: no conversation has the field {name}"
        assert value == "…" or str(_kinds(value))[:4] in spoken[name], f"{name} is of another kind"


def test_the_examples_of_pages_are_messages_of_the_domain() -> None:
    pages = [one for one in _all_examples() if _tag(one) in {"get_all_emails", "emails_list"}]
    asked = [msgspec.convert(one, ListParams) for one in pages if "action" in one]
    assert [one.paged for one in asked] == [True, True]
    for one in asked:
        assert one.sort is not None
        assert Sort.of(one.sort) is not None
    [answer] = [one for one in pages if "type" in one]
    known = {field.encode_name for field in msgspec.structs.fields(EmailsPage)}
    assert set(answer) == {"type", "id"} | known
    assert list(answer["data"][0]) == [field.encode_name for field in msgspec.structs.fields(Row)]


def test_the_parts_on_the_page_are_one_state() -> None:
    parts = [one for one in _all_examples() if _tag(one) == "snapshot" and "part" in one]
    assembly = Assembly()
    assert all(assembly.add(one["state"], one["part"], 1) for one in parts)
    assert [row["id"] for row in assembly.whole["emails"]] == [1, 2]


def test_there_are_examples() -> None:
    assert len(_examples()) >= 8


def test_the_page_says_how_many_events_one_publish_may_carry() -> None:
    [row] = [line for line in PAGE.splitlines() if line.startswith("| `publish` ")]
    assert "`events`" in row
    assert f"{EVENTS_MAX:,}" in row
