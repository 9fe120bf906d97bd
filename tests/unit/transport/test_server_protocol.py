"""What stands in for the library's own objects."""

import asyncio
import gc
import inspect
import re
import sys
from collections import deque
from types import GeneratorType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio import connection, messages
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from huahuo.transport.server.wires import Outbox
from huahuo.transport.wire.frame_reader import TEXT_BYTES_MAX, PackedTexts
from huahuo.transport.wire.server_protocol import LOGGER, LazyDeque, WelcomedProtocol


def comparable(protocol: ServerProtocol) -> dict[str, object]:
    """Its attributes; of those that are objects of its own, the class."""
    return {
        name: type(value) if isinstance(value, StreamReader | GeneratorType) else value
        for name, value in vars(protocol).items()
        if name != "id"
    }


def test_it_has_what_the_librarys_own_object_has() -> None:
    theirs = ServerProtocol(state=OPEN, max_size=1234, logger=LOGGER)
    ours = WelcomedProtocol(1234, None)
    assert comparable(ours) == comparable(theirs)
    assert isinstance(ours.id, type(theirs.id))


def test_no_two_share_what_changes() -> None:
    one, other = WelcomedProtocol(1, None), WelcomedProtocol(1, None)
    for name in ("extensions", "reader", "events", "writes", "parser"):
        assert getattr(one, name) is not getattr(other, name)


@given(st.lists(st.one_of(st.integers(), st.just("take"), st.lists(st.integers(), max_size=3))))
def test_it_gives_what_a_deque_gives(steps: list[object]) -> None:
    ours, theirs = LazyDeque[object](), deque[object]()
    for step in steps:
        if step == "take":
            assert (ours.popleft() if len(ours) else None) == (theirs.popleft() if theirs else None)
        elif isinstance(step, list):
            ours.extendleft(step)
            theirs.extendleft(step)
        else:
            ours.append(step)
            theirs.append(step)
        assert (len(ours), bool(ours)) == (len(theirs), bool(theirs))


def test_nothing_is_left_of_what_was_taken() -> None:
    queue = LazyDeque[int]()
    empty = sys.getsizeof(queue)
    queue.append(1)
    queue.popleft()
    assert not any(isinstance(one, deque) for one in gc.get_referents(queue))
    assert empty < sys.getsizeof(deque())
    with pytest.raises(IndexError):
        queue.popleft()


def test_the_library_uses_nothing_else_of_it() -> None:
    source = inspect.getsource(messages.SimpleQueue)
    assert set(re.findall(r"self\.queue\.(\w+)", source)) == {"append", "popleft", "extendleft"}


def test_the_library_uses_of_its_waiters_what_a_list_has() -> None:
    """`WebSocket` keeps a list there, which takes less while it is empty."""
    source = inspect.getsource(connection.Connection)
    assert set(re.findall(r"self\.drain_waiters\.(\w+)", source)) == {"append", "remove"}


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


async def test_everything_is_written_once_and_at_the_latest_in_the_next_turn() -> None:
    outbox, written = Outbox(), list[str]()
    outbox.add(lambda: written.append("a"))
    outbox.add(lambda: written.append("b"))
    assert written == []
    await asyncio.sleep(0)
    assert written == ["a", "b"]
    await asyncio.sleep(0)
    assert written == ["a", "b"]


async def test_what_is_written_at_once_is_not_written_again() -> None:
    outbox, written = Outbox(), list[str]()
    outbox.add(lambda: written.append("a"))
    outbox.flush()
    outbox.add(lambda: written.append("b"))
    assert written == ["a"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert written == ["a", "b"]
