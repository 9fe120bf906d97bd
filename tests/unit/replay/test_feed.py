"""The feed: signal, then read. Live and catch-up by one path."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import LOG_STREAM
from huahuo.replay.live.feed import Feed, Run
from tests.support.models.faulty_log import READ_ALL, FaultyLog, faulty_log, numbers, write
from tests.support.patience import WITHIN_S


def run(test: Callable[[FaultyLog, Feed], Awaitable[None]], **feed_options: Any) -> None:
    """Run `test` with a feed over a log that begins empty."""

    async def main() -> None:
        log = await faulty_log()
        feed = Feed(log, **feed_options)
        async with asyncio.timeout(WITHIN_S):
            await test(log, feed)
        feed.close()

    asyncio.run(main())


def test_recent_events_come_from_memory() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a", "b", "a")
        seen = feed.peek("a", 0, **READ_ALL)
        assert seen is not None
        assert (numbers(seen.events), seen.last) == ([1, 2], 2)
        assert log.reads == []

    run(test)


def test_at_the_head_a_run_is_empty() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a")
        assert feed.peek("a", 1, **READ_ALL) == Run("a", 1)
        assert await feed.fetch("a", 1, **READ_ALL) == Run("a", 1)
        assert feed.peek("never", 0, **READ_ALL) == Run("never", 0)

    run(test)


def test_what_memory_does_not_hold_must_be_fetched() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a", "a", "a")
        assert feed.peek("a", 0, **READ_ALL) is None
        fetched = await feed.fetch("a", 0, **READ_ALL)
        assert numbers(fetched.events) == [1, 2, 3]

    run(test, tail_events_max=2)


async def test_events_from_before_the_feed_must_be_fetched() -> None:
    log = await faulty_log()
    await write(log, "a")
    feed = Feed(log)
    assert feed.peek("a", 0, **READ_ALL) is None
    assert numbers((await feed.fetch("a", 0, **READ_ALL)).events) == [1]


def test_readers_of_the_same_run_get_the_same_object() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a", "a")
        first = feed.peek("a", 0, **READ_ALL)
        assert feed.peek("a", 0, **READ_ALL) is first
        await write(log, "a")
        later = feed.peek("a", 0, **READ_ALL)
        assert later is not None
        assert numbers(later.events) == [1, 2, 3]

    run(test)


def test_the_log_is_read_by_position() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a", "b", "a")
        peeked = feed.peek(LOG_STREAM, 1, **READ_ALL)
        fetched = await feed.fetch(LOG_STREAM, 1, **READ_ALL)
        assert peeked == fetched
        assert fetched.last == 3
        assert [e.position for e in fetched.events] == [2, 3]

    run(test)


def test_equal_fetches_at_one_time_share_one_read() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a", "a", "a")
        runs = await asyncio.gather(*(feed.fetch("a", 0, **READ_ALL) for _ in range(50)))
        assert log.reads == [("a", 0)]
        assert all(r is runs[0] for r in runs)

    run(test, tail_events_max=1)


def test_a_reader_that_gives_up_does_not_take_the_page_from_the_others() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a", "a", "a")
        log.read_gate = asyncio.Event()
        impatient = asyncio.create_task(feed.fetch("a", 0, **READ_ALL))
        patient = asyncio.create_task(feed.fetch("a", 0, **READ_ALL))
        await asyncio.sleep(0)
        impatient.cancel()
        log.read_gate.set()
        assert numbers((await patient).events) == [1, 2, 3]

    run(test, tail_events_max=1)


def test_a_resume_storm_reads_only_a_few_pages_at_a_time() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        streams = [f"s/{n}" for n in range(100)]
        await write(log, *streams, *streams)
        await asyncio.gather(*(feed.fetch(s, 0, **READ_ALL) for s in streams))
        assert log.reading_peak == 3
        assert feed.fetches == 100

    run(test, tail_events_max=1, reads_max=3)


def test_a_failed_read_reaches_every_reader_and_is_tried_anew_by_the_next() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a", "a")
        log.read_fault = Unavailable("no disk")
        outcomes = await asyncio.gather(
            *(feed.fetch("a", 0, **READ_ALL) for _ in range(3)), return_exceptions=True
        )
        assert [type(o) for o in outcomes] == [Unavailable] * 3
        log.read_fault = None
        assert numbers((await feed.fetch("a", 0, **READ_ALL)).events) == [1, 2]

    run(test, tail_events_max=1)


def test_a_compacted_range_is_said_as_a_skip() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, *["a"] * 6)
        log.compacted = {3, 4}
        first = await feed.fetch("a", 0, **READ_ALL)
        assert (numbers(first.events), first.skipped_to, first.last) == ([1, 2], 0, 2)
        second = await feed.fetch("a", 2, **READ_ALL)
        assert (second.events, second.skipped_to, second.last) == ((), 4, 4)
        third = await feed.fetch("a", 4, **READ_ALL)
        assert numbers(third.events) == [5, 6]

    run(test, tail_events_max=1)


def test_a_stream_whose_end_was_compacted_is_skipped_to_its_head() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a", "a", "a", "b")
        log.compacted = {2, 3}
        assert (await feed.fetch("a", 1, **READ_ALL)).skipped_to == 3

    run(test, tail_events_max=1)


def test_a_watcher_is_called_once_for_each_commit_that_touched_its_stream() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        seen: list[int] = []
        feed.watch("a", lambda: seen.append(len(runs_of(feed, "a"))))
        await write(log, "a", "a", "b")
        await write(log, "b")
        await write(log, "a")
        assert seen == [2, 3]

    run(test)


def runs_of(feed: Feed, stream: str) -> list[int]:
    peeked = feed.peek(stream, 0, **READ_ALL)
    assert peeked is not None
    return numbers(peeked.events)


def test_a_watcher_of_the_log_hears_of_every_commit() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        calls: list[int] = []
        feed.watch(LOG_STREAM, lambda: calls.append(log.position))
        await write(log, "a", "b")
        await write(log, "c")
        assert calls == [2, 3]

    run(test)


def test_a_closed_watch_is_not_called_not_even_for_the_commit_being_told() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        calls: list[str] = []

        def first() -> None:
            calls.append("first")
            second.close()

        feed.watch("a", first)
        second = feed.watch("a", lambda: calls.append("second"))
        await write(log, "a")
        await write(log, "a")
        assert calls == ["first", "first"]
        second.close()

    run(test)


def test_a_watcher_may_come_while_others_watch_already() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        calls: list[str] = []
        feed.watch("a", lambda: calls.append("early"))
        await write(log, "a")
        feed.watch("a", lambda: calls.append("late"))
        await write(log, "a")
        assert calls == ["early", "early", "late"]

    run(test)


def test_a_watcher_that_raises_does_not_keep_the_signal_from_the_others() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        calls: list[str] = []

        def broken() -> None:
            raise RuntimeError("a bug")

        feed.watch("a", broken)
        feed.watch("a", lambda: calls.append("sound"))
        await write(log, "a")
        assert calls == ["sound"]

    run(test)


def test_a_missed_signal_wakes_every_watcher_at_the_next_one() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        calls: list[str] = []
        feed.watch("a", lambda: calls.append("a"))
        log.deaf = True
        await write(log, "a")
        log.deaf = False
        await write(log, "b")
        assert calls == ["a"]
        assert feed.missed == 1

    run(test)


def test_a_missed_signal_hides_nothing_from_who_asks() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a")
        log.deaf = True
        await write(log, "a")
        assert feed.peek("a", 1, **READ_ALL) is None
        assert numbers((await feed.fetch("a", 1, **READ_ALL)).events) == [2]

    run(test)


async def collect(runs: AsyncGenerator[Run], last: int) -> list[int]:
    """Follow until the cursor is at `last`."""
    seqs: list[int] = []
    async with aclosing(runs) as following:
        async for one in following:
            seqs += numbers(one.events)
            if one.last == last:
                break
    return seqs


def test_following_catches_up_and_goes_on_live() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, *["a"] * 5)
        follower = asyncio.create_task(collect(feed.follow("a", 1, events_max=2), 8))
        for _ in range(3):
            await write(log, "b", "a")
        assert await follower == [2, 3, 4, 5, 6, 7, 8]

    run(test, tail_events_max=2)


def test_following_passes_over_what_was_compacted() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, *["a"] * 6)
        log.compacted = {1, 2, 4}
        assert await collect(feed.follow("a", 0), 6) == [3, 5, 6]

    run(test, tail_events_max=1)


def test_a_follower_that_stops_leaves_no_watch_behind() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        await write(log, "a")
        await collect(feed.follow("a", 0), 1)
        assert feed.watched == 0

    run(test)


def test_a_closed_feed_hears_nothing() -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        calls: list[str] = []
        feed.watch("a", lambda: calls.append("a"))
        feed.close()
        await write(log, "a")
        assert calls == []

    run(test)


@pytest.mark.parametrize("watchers", [5000])
def test_thousands_of_watchers_on_one_stream_are_all_called(watchers: int) -> None:
    async def test(log: FaultyLog, feed: Feed) -> None:
        calls = [0] * watchers

        def caller(n: int) -> Callable[[], None]:
            def call() -> None:
                calls[n] += 1

            return call

        watches = [feed.watch("a", caller(n)) for n in range(watchers)]
        await write(log, "a")
        await write(log, "a")
        assert calls == [2] * watchers
        for watch in watches:
            watch.close()
        assert feed.watched == 0

    run(test)
