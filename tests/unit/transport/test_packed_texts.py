"""Texts that wait in one piece of bytes come out as they went in."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.wire.frame_reader import TEXT_BYTES_MAX, PackedTexts


@given(st.lists(st.one_of(st.just("take"), st.lists(st.binary(max_size=300), max_size=4))))
def test_they_are_a_queue(steps: list[str | list[bytes]]) -> None:
    ours, theirs = PackedTexts(), deque[bytes]()
    for step in steps:
        if isinstance(step, str):
            assert (ours.take() if ours.count else None) == (theirs.popleft() if theirs else None)
        else:
            ours.add(step)
            theirs.extend(step)
        assert ours.count == len(theirs)
    assert [ours.take() for _ in range(ours.count)] == list(theirs)


def test_the_longest_text_has_room_and_none_is_taken_where_none_waits() -> None:
    ours = PackedTexts()
    ours.add([b"x" * TEXT_BYTES_MAX, b""])
    assert (len(ours.take()), ours.take()) == (TEXT_BYTES_MAX, b"")
    with pytest.raises(IndexError):
        ours.take()
