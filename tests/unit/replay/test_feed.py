"""The feed: signal, then read. Live and catch-up by one path."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any

from huahuo.eventstore.model import StoredEvent
from huahuo.replay.feed import Feed
from tests.support.models.faulty_log import READ_ALL, FaultyLog, faulty_log, numbers, write

type Told = Mapping[str, Sequence[StoredEvent]] | None


@asynccontextmanager
async def feed_over_log(**feed_options: Any) -> AsyncIterator[tuple[FaultyLog, Feed]]:
    """A log that begins empty, and a feed over it."""
    log = await faulty_log()
    with closing(Feed(log, **feed_options)) as feed:
        yield log, feed


async def test_readers_of_the_same_run_get_the_same_object() -> None:
    async with feed_over_log() as (log, feed):
        await write(log, "a", "a")
        first = feed.peek("a", 0, **READ_ALL)
        assert feed.peek("a", 0, **READ_ALL) is first
        await write(log, "a")
        later = feed.peek("a", 0, **READ_ALL)
        assert later is not None
        assert numbers(later.events) == [1, 2, 3]


async def test_a_resume_storm_reads_only_a_few_pages_at_a_time() -> None:
    async with feed_over_log(tail_events_max=1, reads_max=3) as (log, feed):
        streams = [f"s/{n}" for n in range(100)]
        await write(log, *streams, *streams)
        await asyncio.gather(*(feed.fetch(s, 0, **READ_ALL) for s in streams))
        assert log.reading_peak == 3
        assert feed.fetches == 100


async def test_a_tap_that_raises_does_not_keep_the_events_from_the_others() -> None:
    async with feed_over_log() as (log, feed):
        calls: list[str] = []

        def broken(_by_stream: Told) -> None:
            raise RuntimeError("a bug")

        feed.tap(broken)
        feed.tap(lambda _: calls.append("sound"))
        await write(log, "a")
        assert calls == ["sound"]
