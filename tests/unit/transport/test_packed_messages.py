"""What waits at a socket or leaves in one write, and the heads of frames."""

import asyncio
from collections import deque
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import BINARY, CONT, TEXT, Frame, Opcode

from huahuo.transport.server.wires import Outbox
from huahuo.transport.wire.frame_reader import PackedMessages, frame_size


@given(st.lists(st.one_of(st.integers(0, 3), st.lists(st.binary(max_size=300)))))
def test_they_are_a_queue(steps: list[int | list[bytes]]) -> None:
    ours, theirs = PackedMessages(), deque[bytes]()
    for step in steps:
        if isinstance(step, int):
            for _ in range(count := min(step, len(theirs))):
                theirs.popleft()
            ours.drop(count)
        else:
            ours.add(step)
            theirs += step
        assert ours.count == len(theirs)
        assert ours.texts(4) == list(islice(theirs, 4))
    assert ours.size_bytes == sum(4 + len(one) for one in theirs)


@given(st.binary(max_size=70_000), st.sampled_from((TEXT, BINARY, CONT)), st.integers(0, 14))
def test_the_size_of_a_frame_is_read_from_its_head(payload: bytes, opcode: Opcode, have: int) -> None:
    frame = Frame(opcode, payload).serialize(mask=True)
    head_bytes = 2 if len(payload) < 126 else 4 if len(payload) < 1 << 16 else 10
    assert frame_size(frame[:have]) == (len(frame) if have >= head_bytes else 0)


async def test_everything_is_written_once_and_at_the_latest_in_the_next_turn() -> None:
    outbox, written = Outbox(), list[str]()
    outbox.add(lambda: written.append("a"))
    outbox.add(lambda: written.append("b"))
    assert written == []
    await asyncio.sleep(0)
    assert written == ["a", "b"]
    await asyncio.sleep(0)
    assert written == ["a", "b"]
