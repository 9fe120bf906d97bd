"""Requests, answers and refusals over HTTP."""

import json
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
import pytest

from huahuo.actors.plugins.words import Words
from huahuo.eventstore.model import Head
from huahuo.transport.http import messages
from huahuo.transport.http.stream_pages import (
    AskedWrongly,
    after_of,
    limit_of,
    seq_of,
    wait_s_of,
)
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import ErrorCode, in_english
from huahuo.transport.protocol.incoming import listed
from huahuo.transport.protocol.kinds import Outcome, merge
from huahuo.transport.protocol.strict_json import (
    VALUES_MAX,
    decode_closely,
    field_with_lost_key,
)
from huahuo.transport.words import en, zh

EVENT = b'{"stream":"group/ops","type":"a","fields":{}}'
PUBLISH = b'{"action":"publish","id":"p","events":[' + EVENT + b"]}"


def parsed(data: str | bytes) -> incoming.Parsed | incoming.Invalid:
    return incoming.parse(data, bytes_max=1 << 20, depth_max=32)


@pytest.mark.parametrize(
    "data",
    [
        PUBLISH.replace(b'{"action"', b'{ "action"'),
        PUBLISH.replace(b'"fields":{}', b'"fields":{"a":[1]}'),
        PUBLISH.replace(b'"fields":{}', b'"fields":{"a":1.50}'),
        PUBLISH.replace(b'"p"', b'"\xff"'),
    ],
)
def test_a_list_in_another_form_is_looked_at_closely(data: bytes) -> None:
    assert listed(data) is None


def test_an_action_that_is_no_text_is_refused_by_its_name() -> None:
    refused = parsed(b'{"action":7,"id":"a"}')
    assert isinstance(refused, incoming.Invalid)
    assert refused.code == ErrorCode.INVALID_FIELD
    assert refused.id == "a"


def test_a_field_whose_name_is_not_shown_is_refused_with_the_reason_and_the_id() -> None:
    refused = incoming.invalid_field("<b>", "it is missing", "7")
    assert (refused.code, refused.details, refused.id) == (ErrorCode.INVALID_FIELD, "it is missing", "7")
    assert "<b>" not in refused.message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a":1e400}', "a number out of range"),
        ('{"a":NaN}', "NaN or Infinity"),
        ('{"a":["\\ud800"]}', "a lone surrogate"),
        ('{"\\ud800":1}', "a lone surrogate"),
        ('{"a":[1,null]}', ""),
        ('{"a":[1,null],"b":"\\ud83d\\ude00"}', ""),
    ],
)
def test_what_json_does_not_have_is_a_fault(text: str, fault: str) -> None:
    assert fault in decode_closely(text)[1]
    assert bool(fault) == bool(decode_closely(text)[1])


def test_parts_merge_objects_lists_and_the_rest() -> None:
    whole: dict[str, Any] = {"a": {"x": [1], "y": {"z": 1}}, "b": 1}
    merge(whole, {"a": {"x": [2], "y": {"w": 2}}, "b": 2, "c": 3})
    assert whole == {"a": {"x": [1, 2], "y": {"z": 1, "w": 2}}, "b": 2, "c": 3}


def test_a_message_that_is_too_long_is_not_looked_at() -> None:
    data = b'{"action":"count","id":"7","text":"' + b"x" * 100 + b'"}'
    refused = incoming.parse(data, bytes_max=100, depth_max=32)
    assert isinstance(refused, incoming.Invalid)
    assert refused.code is ErrorCode.BAD_MESSAGE


def a_message_of(values: int, value: bytes = b"0") -> bytes:
    """Of so many values: its action, a list, and what is in it."""
    return b'{"action":"count","all":[' + b",".join([value] * (values - 2)) + b"]}"


@pytest.mark.parametrize(
    "data",
    [
        a_message_of(VALUES_MAX + 1),
        a_message_of(VALUES_MAX + 1, b'"a"'),
        a_message_of(VALUES_MAX // 2 + 2, b"{}"),
        a_message_of(VALUES_MAX // 2 + 2, b"[0]"),
        b'{"action":"count",' + b",".join(b'"%d":0' % number for number in range(VALUES_MAX)) + b"}",
        PUBLISH.replace(b"{}", b"{" + b",".join(b'"%d":0' % number for number in range(VALUES_MAX)) + b"}"),
    ],
    ids=["numbers", "texts", "objects", "lists", "keys", "publish"],
)
def test_a_message_of_too_many_values_is_refused_with_the_bound(data: bytes) -> None:
    for form in (data, data.decode()):
        refused = incoming.parse(form, bytes_max=4 << 20, depth_max=32)
        assert isinstance(refused, incoming.Invalid)
        assert refused.code is ErrorCode.BAD_MESSAGE
        assert str(VALUES_MAX) in refused.message


@pytest.mark.parametrize("all_of_it", [b"[" + b"0," * VALUES_MAX + b"0]", b"[" * 40 + b"]" * 40])
@pytest.mark.parametrize("front", [b'{"action":"count","id":"c-1",', b' { "action": "count", "id": "c-1", '])
def test_who_waits_for_the_answer_to_a_message_beyond_a_bound_gets_one(
    front: bytes, all_of_it: bytes
) -> None:
    refused = parsed(front + b'"all":' + all_of_it + b"}")
    assert isinstance(refused, incoming.Invalid)
    assert (refused.code, refused.id) == (ErrorCode.BAD_MESSAGE, "c-1")


@pytest.mark.parametrize("space", [b"", b"\n"])
def test_a_message_of_as_many_values_as_the_bound_is_read(space: bytes) -> None:
    assert isinstance(parsed(a_message_of(VALUES_MAX, space + b"0")), incoming.Parsed)


@pytest.mark.parametrize("form", [str.encode, str])
def test_numbers_of_great_powers_are_read_as_they_are(form: Callable[[str], str | bytes]) -> None:
    given = [1e308, -2.5e-308, 1.0, 289e289] * 100
    read = parsed(form(json.dumps({"action": "count", "id": "c", "all": given})))
    assert read == incoming.Parsed("count", "c", {"action": "count", "id": "c", "all": given})


def test_a_list_of_events_is_read_object_by_object_where_lists_may_not_be_so_deep() -> None:
    read = incoming.parse(PUBLISH, bytes_max=1 << 20, depth_max=3)
    assert isinstance(read, incoming.Parsed | incoming.Invalid)
    assert read == incoming.parse(PUBLISH.decode(), bytes_max=1 << 20, depth_max=3)


class Place(msgspec.Struct):
    street: str


class Order(msgspec.Struct):
    to: Place
    more: list[Place] = []
    named: dict[str, Place] = {}


@pytest.mark.parametrize(
    ("fields", "named", "details"),
    [
        ({}, "to", "to: it is missing"),
        ({"to": {}}, "to", "to.street: it is missing"),
        ({"to": {"street": "a"}, "more": [{"street": "b"}, {}]}, "more", "more[1].street: it is missing"),
        ({"to": {"street": "a"}, "named": {"x": {}}}, "named", "named[...].street: it is missing"),
    ],
)
def test_a_field_that_is_missing_inside_another_is_named_with_the_message_s_own(
    fields: dict[str, Any], named: str, details: str
) -> None:
    refused = incoming.converted(fields, "q", Order)
    assert isinstance(refused, incoming.Invalid)
    assert (refused.message, refused.details) == (zh.INVALID_FIELD_NAMED.format(named), details)
    words = Words()
    words.add(zh, en)
    assert words.explain(details, "zh") == details.replace(en.MISSING, zh.MISSING)


class Counts(msgspec.Struct, frozen=True):
    by_number: dict[int, int]


@pytest.mark.parametrize("twin", ["01", "9007199254740993"])
def test_keys_that_are_numbers_are_read_faithfully_or_refused_by_their_field(twin: str) -> None:
    assert incoming.converted({"by_number": {"1": 5, "2": 6}}, "7", Counts) == Counts({1: 5, 2: 6})
    refused = incoming.converted({"by_number": {"1": 5, twin: 6}}, "7", Counts)
    assert isinstance(refused, incoming.Invalid)
    assert (refused.details.split(":")[0], refused.id) == ("by_number", "7")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([{"1": "a", "01": "b"}], [{1: "b"}]),
        ({"inner": {"1": "a", "01": "b"}}, {"inner": {1: "b"}}),
        ({"1": {"2": "a", "02": "b"}}, {1: {2: "b"}}),
        ({"1e999": "a"}, {math.inf: "a"}),
    ],
)
def test_a_key_that_is_lost_as_keys_become_numbers_is_found_wherever_it_is(given: Any, read: Any) -> None:
    assert field_with_lost_key({"fine": {"1": 2}, "lost": given}, {"fine": {1: 2}, "lost": read}) == "lost"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([{"1": "a"}, {"2": "b"}], [{1: "a"}, {2: "b"}]),
        ({"inner": {"1": "a"}, "more": 1}, {"inner": {1: "a"}}),
        ({"1": {"2": "a"}}, {1: {2: "a"}}),
        ("1", 1),
    ],
)
def test_keys_that_are_all_there_as_numbers_are_none_lost(given: Any, read: Any) -> None:
    assert field_with_lost_key({"kept": given}, {"kept": read}) is None


@pytest.mark.parametrize("front", ["{", " {", '{"a":{},'])
def test_a_text_with_a_lone_surrogate_is_refused_by_either_way(front: str) -> None:
    text = front + '"action":"note","id":"7","text":"\ud800"}'
    close = incoming.parse_closely(text, bytes_max=1 << 20, depth_max=32)
    for refused in (parsed(text), close):
        assert isinstance(refused, incoming.Invalid)
        assert refused.code is ErrorCode.BAD_MESSAGE


def test_the_refusal_of_a_field_that_is_missing_inside_another_has_the_id_of_its_command() -> None:
    asked = parsed(b'{"action":"send","id":"7","to":{}}')
    assert isinstance(asked, incoming.Parsed)
    refused = incoming.convert(asked, Order)
    assert isinstance(refused, incoming.Invalid)
    assert (refused.id, refused.details) == ("7", f"to.street: {en.MISSING}")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"x" * (messages.HEAD_BYTES_MAX + 1), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (b"GET / HTTP/1.0\r\n\r\n", None),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
        (b"PRI * HTTP/2.0\r\n\r\n", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HTTPStatus.BAD_REQUEST),
    ],
)
def test_a_head_is_refused_that_is_too_large_or_has_a_bare_end_of_line_or_another_version(
    head: bytes, status: HTTPStatus | None
) -> None:
    assert messages.refusal_of(head) == status


HEAD = Head(first=11, seq=120)
LOG = "a7c1"


@pytest.mark.parametrize(
    ("text", "outcome", "after"),
    [
        ("start", Outcome.GAP, 120),
        ("head", Outcome.FRESH, 120),
        ("snapshot", Outcome.SNAPSHOT, 120),
        ("40", Outcome.RESUMED, 40),
        ("a7c1:40", Outcome.RESUMED, 40),
        ("b000:40", Outcome.RESET, 120),
        (":40", Outcome.RESET, 120),
        ("3", Outcome.GAP, 120),
        ("121", Outcome.RESET, 120),
        ("-50", Outcome.FRESH, 70),
        ("-500", Outcome.FRESH, 10),
    ],
)
def test_a_place_has_the_outcome_of_the_protocol(text: str, outcome: Outcome, after: int) -> None:
    place = after_of(text).resolved(HEAD, LOG)
    assert (place.outcome, place.after) == (outcome, after)


@pytest.mark.parametrize("text", ["tail", "-0", "1.5", "a7c1:", "٣", "9" * 17, "x" * 65 + ":1", "-1000000"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(AskedWrongly, match="Last-Event-ID"):
        after_of(text)


@pytest.mark.parametrize(
    ("read", "name", "text"),
    [
        (limit_of, "limit", "0"),
        (limit_of, "limit", "1001"),
        (limit_of, "limit", "many"),
        (wait_s_of, "wait", "-1"),
        (wait_s_of, "wait", "61"),
        (wait_s_of, "wait", "nan"),
        (wait_s_of, "wait", "long"),
        (seq_of, "seq", ""),
        (seq_of, "seq", "-1"),
        (seq_of, "seq", "9007199254740993"),
    ],
)
def test_a_number_beyond_its_bounds_is_refused_with_its_name(
    read: Callable[[dict[str, str]], object], name: str, text: str
) -> None:
    with pytest.raises(AskedWrongly, match=f"{name}:"):
        read({name: text})


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        ("sold_out", "only 3 are left", "sold_out: only 3 are left"),
        ("not_found", "no order 7", "not_found: no order 7"),
        ("sold_out", "售罄", "sold_out: 售罄"),
        ("sold_out", "", "sold_out"),
    ],
)
def test_an_applications_message_is_shown(code: str, message: str, told: str) -> None:
    assert in_english(code, message) == told
