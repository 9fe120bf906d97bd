"""The short ways of reading: whatever they take, the long way would have read the same."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import BINARY, CONT, TEXT, Frame, Opcode

from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.incoming import Acks, Invalid, ListedEvent, Parsed, fingerprint, listed
from huahuo.transport.protocol.strict_json import compact_object
from huahuo.transport.wire.frame_reader import short_text, texts_in
from tests.support.fuzz.sockets import as_frames

JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**15) + 1, 10**15 - 1), st.text(max_size=15),
        st.floats(-(10**6), 10**6).map(lambda number: round(number, 3)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip
CURSORS = st.dictionaries(st.text(max_size=130), st.integers(-2, 2**53), max_size=3)
ODD = (
    '{"action":"ack","cursors":{"user/1":1,"user/1":2}}',
    '{"action":"ack","action":"ack","cursors":{}}',
    '{"action":"ack","cursors":{"user/1":1.0}}',
    '{"action":"ack","cursors":{"user/1":01}}',
    '{"action":"ack","cursors":{"user/1":1}} ',
    '{"action":"ack", "cursors":{"user/1":1}}',
    '{"action":"ack","cursors":{"user/1":1},"id":"a"}',
    '{"action":"ack","cursors":{"\\u0061":1}}',
    '{"action":"ack","cursors":null}',
    '{"action":"ack"}',
    '{"action":"ack","cursors":{}}garbage',
)


def long_way(data: bytes) -> dict[str, int] | None:
    parsed = incoming.parse(data, bytes_max=1 << 20, depth_max=32)
    if not isinstance(parsed, Parsed) or parsed.action != "ack" or parsed.id is not None:
        return None
    acks = incoming.convert(parsed, Acks)
    return acks.cursors if isinstance(acks, Acks) else None


@given(cursors=CURSORS)
def test_an_ack_as_clients_write_it_is_read_by_the_short_way(cursors: dict[str, int]) -> None:
    data = msgspec.json.encode({"action": "ack", "cursors": cursors})
    assert incoming.plain_ack(data) == long_way(data)


@given(
    text=st.one_of(
        st.sampled_from(ODD), st.text(max_size=60), st.builds(msgspec.json.encode, CURSORS).map(bytes.decode)
    )
)
def test_what_the_short_way_takes_the_long_way_reads_alike(text: str) -> None:
    data = text.encode()
    cursors = incoming.plain_ack(data)
    assert cursors is None or cursors == long_way(data)


def test_repeated_and_unknown_members_go_the_long_way() -> None:
    for text in ODD:
        assert incoming.plain_ack(text.encode()) is None


SEQS = st.integers(0, 10**15 - 1)


@given(stream=st.text(min_size=1, max_size=20), seqs=st.tuples(SEQS, SEQS))
def test_an_ack_like_the_last_one_is_read_by_its_number(stream: str, seqs: tuple[int, int]) -> None:
    first, then = (msgspec.json.encode({"action": "ack", "cursors": {stream: seq}}) for seq in seqs)
    front = incoming.front_of_ack(first, seqs[0])
    assert incoming.seq_of_ack(first, front) == seqs[0]
    assert incoming.seq_of_ack(then, front) == seqs[1]


ODD_ENDS = (
    "007}}", "-1}}", "+1}}", "1.0}}", "1_0}}", " 1}}", "1 }}", "}}", "1}", "1}} ", "1}}}", "²}}",
    '1,"user/2":3}}', "9007199254740992}}", "9007199254740991}}", "1e3}}",
)  # fmt: skip
ENDS = st.one_of(st.from_regex(r"[-+]?[0-9_. e]{0,18}[}, ]{0,3}", fullmatch=True), st.text(max_size=20))


def read_alike(text: bytes) -> None:
    like = b'{"action":"ack","cursors":{"user/1":5}}'
    seq = incoming.seq_of_ack(text, incoming.front_of_ack(like, 5))
    assert seq == -1 or {"user/1": seq} == long_way(text)


@given(front=st.sampled_from(("x", '{"action":"ack","cursors":{"user/1":')), end=ENDS)
def test_what_is_read_by_its_number_the_long_way_reads_alike(front: str, end: str) -> None:
    read_alike(f"{front}{end}".encode())


@pytest.mark.parametrize("end", ODD_ENDS)
def test_a_number_in_another_form_is_not_read_by_it(end: str) -> None:
    read_alike(f'{{"action":"ack","cursors":{{"user/1":{end}'.encode())


def closely(data: str | bytes, depth_max: int = 32) -> Parsed | Invalid:
    return incoming.parse_closely(data, bytes_max=1 << 20, depth_max=depth_max)


ODD_OBJECTS = (
    '{"action":"note","id":"a","n":1,"n":1}',
    '{"action":"note","n":{"a":1,"a":2}}',
    '{"action":"note","n":9007199254740992}',
    '{"action":"note","n":[-9007199254740993]}',
    '{"action":"note","n":NaN}',
    '{"action":"note","n":1e999}',
    '{"action":"note","n":1.0}',
    '{"action":"note","n":-0}',
    '{"action":"note","n":"\\ud800"}',
    '{"action":"note","n":"\\ud83d\\ude00"}',
    '{"action":"note","id":""}',
    '{"action":"note","id":7}',
    '{"action":7,"id":"a"}',
    '{"id":"a"}',
    '{"action":"note","id":null}',
    "{}",
    "[]",
    "7",
    "",
    '{"action":"note","n":' + "[" * 40 + "]" * 40 + "}",
    '{"action":"note"} ',
    '\ufeff{"action":"note"}',
)


@given(fields=st.dictionaries(st.text(max_size=8), JSON, max_size=6))
def test_a_compact_object_is_read_by_the_short_way_as_by_the_long_one(fields: dict[str, Any]) -> None:
    data = msgspec.json.encode({"action": "note", **fields})
    assert compact_object(data, 32) == {"action": "note", **fields}
    assert incoming.parse(data, bytes_max=1 << 20, depth_max=32) == closely(data)


@given(
    fields=st.dictionaries(st.text("abc _:,", max_size=8), st.integers(0, 9) | st.text("ab :,", max_size=9))
)
def test_spaces_between_the_parts_do_not_close_the_short_way(fields: dict[str, Any]) -> None:
    data = json.dumps({"action": "note", **fields}).encode()
    assert compact_object(data, 32) == {"action": "note", **fields}


@given(
    text=st.one_of(
        st.sampled_from(ODD + ODD_OBJECTS),
        st.text(max_size=60),
        st.builds(json.dumps, st.dictionaries(st.text(max_size=8), JSON, max_size=6)),
    )
)
def test_an_object_of_any_form_is_read_as_by_the_long_way(text: str) -> None:
    for data in (text, text.encode("utf-8", "surrogatepass")):
        assert incoming.parse(data, bytes_max=1 << 20, depth_max=32) == closely(data)


@given(depth=st.integers(1, 12), wide=st.booleans(), kinds=st.lists(st.booleans(), min_size=12, max_size=12))
def test_nesting_is_bounded_alike_by_both_ways_however_many_brackets_there_are(
    depth: int, wide: bool, kinds: list[bool]
) -> None:
    value: Any = {}
    for kind in kinds[: depth - 1]:
        value = {"in": value} if kind else [value]
    fields: dict[str, Any] = {"action": "note", "n": value}
    if wide:
        fields["many"] = [{"[": "{"}] * 20
    data = msgspec.json.encode(fields)
    assert incoming.parse(data, bytes_max=1 << 20, depth_max=8) == closely(data, 8)
    short = compact_object(data, 8)
    assert short == (fields if depth < 8 else None)


PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53) - 1, 2**53 + 1), st.text(max_size=15),
    st.floats(-(10**6), 10**6).map(lambda number: round(number, 3)),
)  # fmt: skip
EVENTS = st.lists(
    st.fixed_dictionaries(
        {"stream": st.text(max_size=8), "type": st.text(max_size=8)},
        optional={"fields": st.dictionaries(st.text(max_size=8), PLAIN | JSON, max_size=4)},
    ),
    max_size=4,
)
ODD_LISTS = (
    '{"action":"publish","id":"a","events":[{"stream":"s","type":"t","fields":{"n":1,"n":1}}]}',
    '{"action":"publish","id":"a","events":[{"stream":"s","type":"t","type":"t","fields":{}}]}',
    '{"action":"publish","id":"a","id":"a","events":[{"stream":"s","type":"t","fields":{}}]}',
    '{"action":"publish","id":"a","events":[{"stream":"s","type":"t","fields":{},"more":1}]}',
    '{"action":"publish","id":"a","events":[{"stream":"s","type":"t","fields":{}}],"more":1}',
    '{"action":"publish","id":"a","events":[{"stream":"s","type":"t","fields":{"n":9007199254740992}}]}',
    '{"action":"publish","id":"a","events":[{"stream":"s","type":"t","fields":{"n":-0}}]}',
    '{"action":"publish","id":"a","events":[{"stream":"s","type":"t","fields":{"n":1e999}}]}',
    '{"action":"publish","id":"a","events":[{"stream":"s","type":"t","fields":{"n":"\\ud800"}}]}',
    '{"action":"publish","id":"\\ud800","events":[{"stream":"s","type":"t","fields":{}}]}',
    '{"action":"publish","id":"","events":[{"stream":"s","type":"t","fields":{}}]}',
    '{"action":"publish","id":"a","events":[{"stream":"s","type":"t","fields":{}}]} ',
    '{"action":"publish","id":"a","events":[{"stream":"s","type":"t","fields":{}},7]}',
    '{"action":"publish","id":"a","events":[]}',
)


@given(events=EVENTS, request_id=st.text(max_size=70))
def test_a_list_of_events_is_read_by_the_short_way_as_by_the_long_one(
    events: list[dict[str, Any]], request_id: str
) -> None:
    data = msgspec.json.encode({"action": "publish", "id": request_id, "events": events})
    found, by_long_way = incoming.parse(data, bytes_max=1 << 20, depth_max=32), closely(data)
    assert msgspec.to_builtins(found) == msgspec.to_builtins(by_long_way)
    if isinstance(found, Parsed) and isinstance(by_long_way, Parsed):
        assert fingerprint(found.fields, b"key") == fingerprint(by_long_way.fields, b"key")


def test_events_as_clients_write_them_go_the_short_way() -> None:
    fields: dict[str, Any] = {"a": "x", "b": 1, "c": 1.5, "d": None, "e": True}
    events = [{"stream": "user/1", "type": "t", "fields": fields}]
    data = msgspec.json.encode({"action": "publish", "id": "a", "events": events})
    found = incoming.parse(data, bytes_max=1 << 20, depth_max=4)
    assert isinstance(found, Parsed)
    assert found.fields["events"] == [ListedEvent("user/1", "t", fields)]
    too_deep = incoming.parse(data, bytes_max=1 << 20, depth_max=2)
    assert too_deep == closely(data, 2)
    assert isinstance(too_deep, Invalid)


@pytest.mark.parametrize("text", ODD_LISTS)
def test_lists_with_anything_odd_go_the_long_way(text: str) -> None:
    assert listed(text.encode()) is None
    assert incoming.parse(text.encode(), bytes_max=1 << 20, depth_max=32) == closely(text)


def serialized(opcode: Opcode, payload: bytes, **more: Any) -> bytes:
    return Frame(opcode, payload, **more).serialize(mask=True)


@given(payload=st.binary(min_size=1, max_size=125))
def test_a_short_text_frame_is_unmasked(payload: bytes) -> None:
    assert short_text(serialized(TEXT, payload)) == payload


@given(payload=st.binary(max_size=300), cut=st.integers(1, 400), more=st.binary(min_size=1, max_size=9))
def test_anything_but_exactly_one_short_text_frame_is_left_to_the_library(
    payload: bytes, cut: int, more: bytes
) -> None:
    whole = serialized(TEXT, payload)
    assert short_text(whole[:-cut]) is None
    assert short_text(whole + more) is None
    assert short_text(serialized(TEXT, payload, fin=False)) is None
    assert short_text(bytes((whole[0] | 0x40,)) + whole[1:]) is None
    assert short_text(serialized(BINARY, payload)) is None
    assert short_text(serialized(CONT, payload)) is None
    assert short_text(Frame(TEXT, payload).serialize(mask=False)) is None
    if not 1 <= len(payload) <= 125:
        assert short_text(whole) is None


@given(payload=st.binary(max_size=300), bytes_max=st.integers(0, 300))
def test_a_text_that_is_too_long_is_left_to_the_library(payload: bytes, bytes_max: int) -> None:
    data = serialized(TEXT, payload)
    found = ([payload], len(data), False) if len(payload) <= bytes_max else ([], 0, False)
    assert texts_in(data, 0, bytes_max) == found


@given(
    payloads=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5),
    after=st.sampled_from([b"", b"\x89\x80\0\0\0\0", b"\x82"]),
    cut=st.integers(0, 400),
)
def test_text_frames_in_a_row_are_found_one_after_the_other(
    payloads: list[bytes], after: bytes, cut: int
) -> None:
    data = b"".join(serialized(TEXT, payload) for payload in payloads)
    short = data[: max(0, len(data) - cut)] if cut else data + after
    found, end, begun = texts_in(short)
    assert found == payloads[: len(found)]
    assert (len(found) == len(payloads)) == (not cut)
    assert end == sum(len(serialized(TEXT, payload)) for payload in found)
    if cut:
        assert begun == (end < len(short)), "only the last one is not complete"


@given(payloads=st.lists(st.binary(max_size=300), max_size=5))
def test_messages_as_frames_are_read_as_these_messages_again(payloads: list[bytes]) -> None:
    data = as_frames(payloads)
    assert texts_in(data) == (payloads, len(data), False)


@given(payload=st.binary(max_size=70_000), rest=st.binary(max_size=9))
def test_any_other_frame_is_none_to_handle_at_once(payload: bytes, rest: bytes) -> None:
    others = (
        serialized(TEXT, payload, fin=False),
        serialized(BINARY, payload),
        serialized(CONT, payload),
        Frame(TEXT, payload).serialize(mask=False),
        bytes((0x81 | 0x40,)) + serialized(TEXT, payload)[1:],
        b"\x81\xfe\x00\x05" + bytes(4) + b"hello",  # a length that is not in its shortest form
    )
    for frame in others:
        assert texts_in(frame + rest) == ([], 0, False)
