"""Whatever is cut, wherever: put together it is the whole."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from huahuo.mailcheck.api.mailbox_list import RowsCut
from huahuo.mailcheck.records import Row
from huahuo.transport.protocol.kinds import Assembly, Part, merge

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(st.text(max_size=3), values, max_size=5)


def row(number: int, text: str = "") -> Row:
    return Row(
        number, 7, f"{text}@example.com", "imap", "imap.example.com", 993, True, "2026-01-01T00:00:00Z"
    )


@st.composite
def cut(draw: st.DrawFn, value: dict[str, Any]) -> list[dict[str, Any]]:
    """Parts that must be `value` again: lists and objects are cut anywhere, the rest goes to any part."""
    count = draw(st.integers(1, 4))
    parts: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, one in value.items():
        if isinstance(one, list):
            ends = sorted(draw(st.lists(st.integers(0, len(one)), min_size=count - 1, max_size=count - 1)))
            for part, begin, end in zip(parts, [0, *ends], [*ends, len(one)], strict=True):
                part[name] = one[begin:end]
        elif isinstance(one, dict):
            pieces = draw(cut(one))
            for part, piece in zip(parts, pieces, strict=False):
                part[name] = piece
            for piece in pieces[count:]:
                merge(parts[-1].setdefault(name, {}), piece)
        else:
            parts[draw(st.integers(0, count - 1))][name] = one
    return parts


@given(objects.flatmap(lambda value: st.tuples(st.just(value), cut(value))))
def test_the_parts_of_any_cut_are_the_whole_again(both: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    value, parts = both
    assembly = Assembly()
    for number, part in enumerate(json.loads(json.dumps(parts)), 1):
        assert assembly.add(part, number, 1)
    assert assembly.whole == value


@given(st.lists(st.text('aß"\\\n', max_size=40), max_size=700), st.integers(1, 60_000))
def test_a_list_of_rows_in_parts_is_the_list(texts: list[str], bytes_max: int) -> None:
    rows = [row(number, text) for number, text in enumerate(texts)]
    whole = msgspec.json.encode({"type": "emails_list", "data": rows, "seq": 9})
    head, tail = whole.split(b"[", 1)[0] + b"[", b'],"seq":9}'
    rows_cut, assembly = RowsCut(head, rows, tail), Assembly()
    number, start = 0, 0
    following: int | None = 0
    while following is not None:
        number += 1
        body, following = rows_cut.part(start, bytes_max)
        assert assembly.add(msgspec.json.decode(body), number, len(body))
        assert following is None or following > start
        start = following or 0
    assert assembly.whole == msgspec.json.decode(whole)
    assert b"".join(rows_cut.pieces()) == whole


@given(st.integers(1, 99), st.booleans())
def test_a_message_that_is_a_whole_carries_no_place(number: int, more: bool) -> None:
    members = msgspec.json.decode(b"{" + Part(number, more).members + b"}")
    assert members == (
        {} if (number, more) == (1, False) else {"part": number} | ({"more": True} if more else {})
    )


def test_a_part_that_is_missing_or_too_much_is_not_taken() -> None:
    assembly = Assembly(bytes_max=10)
    assert assembly.add({"a": [1]}, 1, 4)
    assert not assembly.add({"a": [3]}, 3, 4)
    assert assembly.add({"a": [1]}, 1, 4)
    assert not assembly.add({"a": [2]}, 2, 7)
