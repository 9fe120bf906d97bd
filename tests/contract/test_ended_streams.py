"""The contract of ended streams: nothing of them stays in memory, and nothing else changes."""

from pathlib import Path

import pytest

from huahuo.eventstore.care.pruning import CompactionPolicy, compact
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import TooLarge
from huahuo.eventstore.model import Append, Appended, Head, NewEvent
from tests.support.worlds.logs import ENGINES, Engine, append, event, looped, make_engine, opened

GONE = "mailbox/1"


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return make_engine(request.param, tmp_path)


def ending(*streams: str, events: tuple[NewEvent, ...] = ()) -> Append:
    return Append(ts_ms=1, events=events, ended=streams)


async def fill(log: StoreLog) -> None:
    """mailbox/1 with two events, which then ended; mailbox/2 with one."""
    await log.append(append(event(GONE, b"1"), event("mailbox/2", b"2"), event(GONE, b"3")))
    await log.append(ending(GONE))


@looped
async def test_an_ended_stream_is_not_kept_in_memory_also_after_an_opening(engine: Engine) -> None:
    async with opened(engine) as log:
        await fill(log)
        assert log.streams_in_memory == 1
    async with opened(engine) as log:
        assert log.streams_in_memory == 1


@looped
async def test_a_stream_may_begin_and_end_in_one_append_and_a_name_without_events_may_end(
    engine: Engine,
) -> None:
    async with opened(engine) as log:
        await log.append(ending("short", "never", events=(event("short"),)))
        assert (log.head("short").seq, log.head("never").seq, log.streams_in_memory) == (1, 0, 0)
    async with opened(engine) as log:
        assert (log.head("short").seq, log.head("never").seq, log.streams("")) == (1, 0, ["short"])
        done = await log.append(append(event("never")))
        assert isinstance(done, Appended)
        assert done.events[0].seq == 1


@looped
async def test_an_ended_stream_can_be_compacted_and_verified(engine: Engine) -> None:
    policy = CompactionPolicy(types=frozenset({"check_progress"}), before_ms=1 << 60)
    async with opened(engine) as log:
        for _ in range(3):
            await log.append(append(event(GONE, type="check_progress")))
        await log.append(ending(GONE))
        assert await compact(log, policy, engine.ambient, "") == 2
        assert log.head(GONE) == Head(3, 3)
    async with opened(engine) as log:
        assert log.head(GONE) == Head(3, 3)
        assert await log.check_receipts() == 2
        done = await log.append(append(event(GONE)))
        assert isinstance(done, Appended)
        assert done.events[0].seq == 4
        assert log.head(GONE).first == 3
        assert await log.verify() == log.position


@looped
async def test_compaction_ends_the_streams_whose_last_event_says_so(engine: Engine) -> None:
    policy = CompactionPolicy(types=frozenset(), before_ms=0, last=frozenset({"mailbox_deleted"}))
    async with opened(engine) as log:
        await log.append(append(event(GONE), event(GONE, type="mailbox_deleted"), event("mailbox/2")))
        await log.append(append(event("mailbox/3", type="mailbox_deleted"), event("mailbox/3")))
        assert await compact(log, policy, engine.ambient, "") == 0
        assert log.streams_in_memory == 2
        assert log.head(GONE).seq == 2


@looped
async def test_the_name_of_an_ended_stream_is_bounded_too(engine: Engine) -> None:
    async with opened(engine) as log:
        with pytest.raises(TooLarge):
            await log.append(ending("x" * 256))


@looped
async def test_a_stream_that_ended_and_goes_on_has_not_begun(engine: Engine) -> None:
    began: list[str] = []
    async with opened(engine) as log:
        await fill(log)
        log.writer.began = began.append
        await log.append(Append(ts_ms=1, events=(event(GONE, b"4"), event(GONE, b"5")), principal="user/1"))
        assert (began, log.head(GONE).seq) == ([], 4)
        new = (event("mailbox/3", b"6"), event("mailbox/3", b"7"), event(GONE, b"8"))
        await log.append(Append(ts_ms=1, events=new, principal="user/2"))
        assert began == ["user/2"]
