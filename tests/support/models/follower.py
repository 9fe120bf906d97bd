"""A reader of one stream as the transport is: it peeks, fetches what memory does not hold, and is woken."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from huahuo.eventstore.model import StoredEvent
from huahuo.replay.feed import Feed, Run


async def follow(
    feed: Feed, stream: str, after: int, *, events_max: int = 256, bytes_max: int = 256 << 10
) -> AsyncGenerator[Run]:
    """Every run after `after`, without end. Close it (`contextlib.aclosing`) to end its tap."""
    woken = asyncio.Event()

    def tap(by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        if by_stream is None or stream in by_stream:
            woken.set()

    untap = feed.tap(tap)
    try:
        while True:
            woken.clear()
            run = feed.peek(stream, after, events_max=events_max, bytes_max=bytes_max)
            if run is None:
                run = await feed.fetch(stream, after, events_max=events_max, bytes_max=bytes_max)
            if run.last > after:
                after = run.last
                yield run
            else:
                await woken.wait()
    finally:
        untap()
