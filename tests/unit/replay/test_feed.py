"""The feed: signal, then read. Live and catch-up by one path."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
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


async def test_a_reader_that_gives_up_does_not_take_the_page_from_the_others() -> None:
    async with feed_over_log(tail_events_max=1) as (log, feed):
        await write(log, "a", "a", "a")
        log.read_gate = asyncio.Event()
        impatient = asyncio.create_task(feed.fetch("a", 0, **READ_ALL))
        patient = asyncio.create_task(feed.fetch("a", 0, **READ_ALL))
        await asyncio.sleep(0)
        impatient.cancel()
        log.read_gate.set()
        assert numbers((await patient).events) == [1, 2, 3]


async def test_a_resume_storm_reads_only_a_few_pages_at_a_time() -> None:
    async with feed_over_log(tail_events_max=1, reads_max=3) as (log, feed):
        streams = [f"s/{n}" for n in range(100)]
        await write(log, *streams, *streams)
        await asyncio.gather(*(feed.fetch(s, 0, **READ_ALL) for s in streams))
        assert log.reading_peak == 3
        assert feed.fetches == 100


async def test_a_failed_read_reaches_every_reader_and_is_tried_anew_by_the_next() -> None:
    async with feed_over_log(tail_events_max=1) as (log, feed):
        await write(log, "a", "a")
        log.read_fault = Unavailable("no disk")
        outcomes = await asyncio.gather(
            *(feed.fetch("a", 0, **READ_ALL) for _ in range(3)), return_exceptions=True
        )
        assert [type(o) for o in outcomes] == [Unavailable] * 3
        log.read_fault = None
        assert numbers((await feed.fetch("a", 0, **READ_ALL)).events) == [1, 2]


async def test_a_compacted_range_is_said_as_a_skip() -> None:
    async with feed_over_log(tail_events_max=1) as (log, feed):
        await write(log, *["a"] * 6)
        log.compacted = {3, 4}
        first = await feed.fetch("a", 0, **READ_ALL)
        assert (numbers(first.events), first.skipped_to, first.last) == ([1, 2], 0, 2)
        second = await feed.fetch("a", 2, **READ_ALL)
        assert (second.events, second.skipped_to, second.last) == ((), 4, 4)
        third = await feed.fetch("a", 4, **READ_ALL)
        assert numbers(third.events) == [5, 6]


async def test_a_stream_whose_end_was_compacted_is_skipped_to_its_head() -> None:
    async with feed_over_log(tail_events_max=1) as (log, feed):
        await write(log, "a", "a", "a", "b")
        log.compacted = {2, 3}
        assert (await feed.fetch("a", 1, **READ_ALL)).skipped_to == 3


async def test_a_tap_receives_the_events_of_each_commit_by_stream() -> None:
    async with feed_over_log() as (log, feed):
        seen: list[dict[str, list[int]]] = []
        feed.tap(lambda by_stream: seen.append({name: numbers(some) for name, some in told(by_stream)}))
        await write(log, "a", "a", "b")
        await write(log, "b")
        assert seen == [{"a": [1, 2], "b": [1], LOG_STREAM: [1, 2, 1]}, {"b": [2], LOG_STREAM: [2]}]


def told(by_stream: Told) -> list[tuple[str, Sequence[StoredEvent]]]:
    assert by_stream is not None
    return list(by_stream.items())


async def test_a_tap_that_was_ended_is_not_called() -> None:
    async with feed_over_log() as (log, feed):
        calls: list[str] = []
        untap = feed.tap(lambda _: calls.append("ended"))
        feed.tap(lambda _: calls.append("other"))
        untap()
        untap()
        await write(log, "a")
        assert calls == ["other"]


async def test_a_tap_that_raises_does_not_keep_the_events_from_the_others() -> None:
    async with feed_over_log() as (log, feed):
        calls: list[str] = []

        def broken(_by_stream: Told) -> None:
            raise RuntimeError("a bug")

        feed.tap(broken)
        feed.tap(lambda _: calls.append("sound"))
        await write(log, "a")
        assert calls == ["sound"]


async def test_after_a_missed_signal_a_tap_is_told_that_events_are_missing() -> None:
    async with feed_over_log() as (log, feed):
        seen: list[Told] = []
        feed.tap(seen.append)
        log.deaf = True
        await write(log, "a")
        log.deaf = False
        await write(log, "b")
        assert seen == [None]
        assert feed.missed == 1
