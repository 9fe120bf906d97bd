"""What `Publisher` makes of what it is given, and what it refuses before anything is sent."""

import dataclasses
import datetime as dt
import decimal
import json
import uuid
from typing import Any

import msgspec
import pytest

from huahuo import ConfigError, Publisher, Refused
from huahuo.publisher import bearer, body_of, key_of, listed, one


@dataclasses.dataclass
class Parcel:
    number: int


def test_values_are_written_as_the_service_writes_those_of_its_own_process() -> None:
    values = {
        "at": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "id": uuid.UUID(int=7),
        "price": decimal.Decimal("1.50"),
        "bytes": b"x",
        "set": {1},
        "tuple": (1, 2),
        "parcel": Parcel(7),
    }
    assert json.loads(body_of(values)) == json.loads(msgspec.json.encode(values))


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), nested(100_000)])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(Refused, match="a field cannot be written as JSON"):
        body_of({"a": value})


@pytest.mark.parametrize("fields", [[1], "hello", 7, [("a", 1)]])
def test_fields_that_are_no_mapping_are_refused(fields: object) -> None:
    with pytest.raises(Refused, match="fields of parcel_seen: must be a mapping"):
        one("user/42", "parcel_seen", fields)
    assert one("user/42", "parcel_seen", None)["fields"] == {}


@pytest.mark.parametrize("event", [{"stream": "user/42", "type": "x", "fields": {}}, ("user/42", "x"), "abc"])
def test_an_event_of_a_list_that_is_no_triple_is_refused_with_its_place(event: object) -> None:
    with pytest.raises(Refused, match=r"events\[1\]: write \(stream, type, fields\)"):
        listed([("user/42", "x", {}), event])


@pytest.mark.parametrize("command_id", ["", "k" * 65, "a\nb", " a", "ключ"])
def test_an_id_that_no_header_may_have_is_refused(command_id: str) -> None:
    with pytest.raises(Refused, match="command_id: 1 to 64 printable characters"):
        key_of(command_id)
    assert key_of("parcel 7") == "parcel 7"


def test_a_token_is_taken_without_the_lines_end_of_its_file() -> None:
    assert bearer("a.b.c\n") == bearer("a.b.c")


@pytest.mark.parametrize("token", ["", " \n", "canary\nX: y", "canary ключ", b"canary", None])
def test_what_is_no_token_is_refused_and_not_shown(token: Any) -> None:
    with pytest.raises(Refused, match="token_invalid") as refused:
        bearer(token)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("token", [None, b"a.b.c", 7])
def test_a_token_that_is_neither_text_nor_function_is_refused_when_the_publisher_is_made(token: Any) -> None:
    with pytest.raises(ConfigError, match="token: a text, or a function"):
        Publisher("http://127.0.0.1:8765", token)
