"""The queue of a connection's frames behaves as the library's own, and takes nothing while it is empty."""

import gc
import inspect
import re
import sys
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio import connection, messages

from huahuo.transport.wire.server_protocol import LazyDeque


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
