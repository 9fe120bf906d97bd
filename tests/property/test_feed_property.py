"""Properties of the feed and of folds, over any interleaving."""

import asyncio
from collections import Counter
from contextlib import aclosing
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from huahuo.eventstore.model import LOG_STREAM, Append, NewEvent, StoredEvent
from huahuo.replay.feed import Feed, Run
from huahuo.replay.history.keyframe_writer import KeyframeWriter
from huahuo.replay.history.keyframes import KeyframePolicy, state_at
from huahuo.replay.tail import EVENT_BYTES
from tests.support.models.faulty_log import FaultyLog, faulty_log
from tests.support.models.follower import follow
from tests.support.patience import WITHIN_S
from tests.support.proofs import examples
from tests.support.worlds.entities import Account, AccountDecider, moved

STREAMS = ("a", "b", "c")
stream_names = st.sampled_from(STREAMS)
appends = st.lists(
    st.lists(st.tuples(stream_names, st.integers(0, 40)), min_size=1, max_size=6), min_size=1, max_size=12
)
limits = st.fixed_dictionaries({"events_max": st.integers(1, 8), "bytes_max": st.integers(1, 100)})


def append_of(parts: list[tuple[str, int]]) -> Append:
    return Append(ts_ms=1, events=tuple(NewEvent(stream=s, type="t", body=b"x" * size) for s, size in parts))


def in_order(events: list[StoredEvent], stream: str) -> list[StoredEvent]:
    return [e for e in events if stream in (e.stream, LOG_STREAM)]


async def everything(log: FaultyLog) -> list[StoredEvent]:
    return await log.read(LOG_STREAM, 0, events_max=10_000, bytes_max=1 << 30)


@settings(deadline=None, max_examples=examples(300))
@given(
    appends=appends,
    tail_events_max=st.integers(0, 12),
    tail_bytes_max=st.integers(0, 12 * (EVENT_BYTES + 20)),
    before=st.integers(0, 12),
    pauses=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    deaf=st.sets(st.integers(0, 10)),
    limits=limits,
)
def test_every_follower_gets_exactly_the_log_in_order(
    appends: list[list[tuple[str, int]]],
    tail_events_max: int,
    tail_bytes_max: int,
    before: int,
    pauses: list[int],
    deaf: set[int],
    limits: dict[str, int],
) -> None:
    """Whatever is appended before or while it follows, evicted, or signalled in vain."""

    async def main() -> None:
        log = await faulty_log()
        for parts in appends[:before]:
            await log.append(append_of(parts))
        feed = Feed(log, tail_events_max=tail_events_max, tail_bytes_max=tail_bytes_max)
        got: dict[str, list[StoredEvent]] = {s: [] for s in (*STREAMS, LOG_STREAM)}
        last = [(s, 1) for s in STREAMS]
        written = Counter(s for parts in (*appends, last) for s, _ in parts)
        written[LOG_STREAM] = written.total()

        async def read(stream: str) -> None:
            after = 0
            async with aclosing(follow(feed, stream, after, **limits)) as runs:
                async for run in runs:
                    assert run.after == after
                    assert 0 < len(run.events) <= limits["events_max"]
                    size = sum(len(e.body) for e in run.events)
                    assert size <= limits["bytes_max"] or len(run.events) == 1
                    got[stream] += run.events
                    after = run.last
                    if after == written[stream]:
                        return

        async def append() -> None:
            for n, parts in enumerate(appends[before:]):
                log.deaf = n in deaf
                await log.append(append_of(parts))
                for _ in range(pauses[n]):
                    await asyncio.sleep(0)
            log.deaf = False
            await log.append(append_of(last))

        async with asyncio.timeout(WITHIN_S):
            await asyncio.gather(*(read(stream) for stream in got), append())
        expected = await everything(log)
        assert got == {s: in_order(expected, s) for s in got}

    asyncio.run(main())


@settings(deadline=None)
@given(
    appends=appends,
    tail_events_max=st.integers(0, 40),
    stream=st.sampled_from((*STREAMS, LOG_STREAM)),
    after=st.integers(0, 30),
    limits=limits,
)
def test_memory_and_store_give_the_same_run(
    appends: list[list[tuple[str, int]]],
    tail_events_max: int,
    stream: str,
    after: int,
    limits: dict[str, int],
) -> None:
    async def main() -> tuple[Run | None, Run]:
        log = await faulty_log()
        feed = Feed(log, tail_events_max=tail_events_max, tail_bytes_max=1 << 20)
        for parts in appends:
            await log.append(append_of(parts))
        return feed.peek(stream, after, **limits), await feed.fetch(stream, after, **limits)

    peeked, fetched = asyncio.run(main())
    assert peeked is None or peeked == fetched


amounts = st.lists(st.integers(-100, 100), min_size=1, max_size=30)


async def account_log(amounts: list[int]) -> FaultyLog:
    log = await faulty_log()
    await log.append(Append(ts_ms=1, events=tuple(moved("account/a", a) for a in amounts)))
    return log


def folded(amounts: list[int]) -> Account:
    return Account("account/a", sum(amounts), len(amounts))


@settings(deadline=None)
@given(amounts=amounts, data=st.data())
def test_the_state_at_any_seq_is_the_fold_of_that_prefix(amounts: list[int], data: Any) -> None:
    at = data.draw(st.integers(0, len(amounts)))

    async def main() -> tuple[int, Account]:
        return await state_at(await account_log(amounts), "account/a", AccountDecider(), at=at)

    assert asyncio.run(main()) == (at, folded(amounts[:at]))


@settings(deadline=None)
@given(amounts=amounts, data=st.data())
def test_keyframe_and_tail_give_the_full_fold(amounts: list[int], data: Any) -> None:
    framed = data.draw(st.lists(st.integers(0, len(amounts)), max_size=4))
    at = data.draw(st.integers(0, len(amounts)))

    async def main() -> tuple[int, Account]:
        log = await account_log(amounts)
        writer = KeyframeWriter(log, KeyframePolicy())
        for seq in framed:
            writer.offer(
                "account/a", AccountDecider(), *await state_at(log, "account/a", AccountDecider(), at=seq)
            )
        await writer.flush()
        return await state_at(log, "account/a", AccountDecider(), at=at)

    assert asyncio.run(main()) == (at, folded(amounts[:at]))
