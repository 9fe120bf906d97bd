"""Joined pages: their frames equal those of events, and they are used only if no event must be looked at."""

import asyncio
from collections.abc import Sequence

from huahuo.eventstore.model import Joined
from huahuo.replay.feed import SharedReads
from huahuo.transport.protocol.frames import FrameCache
from tests.support.drivers.session import payloads


def test_a_joined_page_over_the_frame_limit_makes_no_frame_but_one_event_always_does() -> None:
    frames = FrameCache(bytes_max=1 << 20, frame_bytes_max=100)
    body = b'{"n":"%b"}' % (b"x" * 100)
    assert frames.joined("a", Joined(1, 2, body + b"," + body)) is None
    framed = frames.joined("a", Joined(1, 1, body))
    assert framed is not None
    assert body in payloads(framed.data)[0]


async def test_what_nobody_waits_for_any_more_is_not_read() -> None:
    gate, read = asyncio.Event(), list[str]()

    async def slow(keys: Sequence[str]) -> Sequence[str]:
        read.extend(keys)
        await gate.wait()
        return keys

    reads = SharedReads(slow, 1)
    first = asyncio.create_task(reads.get("first"))
    given_up = asyncio.create_task(reads.get("given up"))
    last = asyncio.create_task(reads.get("last"))
    await asyncio.sleep(0)
    given_up.cancel()
    gate.set()
    assert [await first, await last] == ["first", "last"]
    assert read == ["first", "last"]


async def test_a_page_that_cannot_be_read_takes_none_of_the_others_along() -> None:
    async def read(keys: Sequence[int]) -> Sequence[int]:
        if 2 in keys:
            raise ValueError("two")
        return keys

    reads = SharedReads(read, 1, together_max=8)
    zero, one, two, three = await asyncio.gather(*map(reads.get, range(4)), return_exceptions=True)
    assert (zero, one, three) == (0, 1, 3)
    assert isinstance(two, ValueError)


async def test_a_waiter_for_cancelled_reads_is_cancelled_too() -> None:
    async def read(keys: Sequence[int]) -> Sequence[int]:
        raise asyncio.CancelledError if len(keys) == 1 else ValueError

    reads = SharedReads(read, 1, together_max=8)
    waiters = await asyncio.gather(*map(reads.get, range(4)), return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in waiters)
