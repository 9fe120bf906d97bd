"""What the log promises when its disk fails: unknown means unknown, and nothing acked is lost.

Run on the in-memory engine, whose model disk fails on demand; `tests/crash/test_log_process.py` makes a
real disk fail under SQLite. Both engines share the code that is tested here.
"""

import asyncio
import errno
from collections.abc import Callable

import pytest

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append, Appended, Secret, SecretPut
from tests.support.worlds.logs import MemoryEngine, append, command, event, opened


def full(engine: MemoryEngine) -> None:
    engine.disk.fail_writes.append(errno.ENOSPC)


def broken_write(engine: MemoryEngine) -> None:
    engine.disk.fail_writes.append(errno.EIO)


def broken_sync(engine: MemoryEngine) -> None:
    engine.disk.fail_syncs.append(errno.EIO)


type Fault = Callable[[MemoryEngine], None]
faulty = pytest.mark.parametrize("fault", [full, broken_write, broken_sync])


@faulty
async def test_every_append_of_a_failed_commit_is_unavailable_and_the_next_goes_through(fault: Fault) -> None:
    engine = MemoryEngine()
    async with opened(engine) as log:
        await log.append(append(event("a")))
        fault(engine)
        outcomes = await asyncio.gather(
            *(log.append(append(event("a"))) for _ in range(5)), return_exceptions=True
        )
        assert all(isinstance(o, Unavailable) for o in outcomes)
        assert len({id(o) for o in outcomes}) == 5, "each has an exception of its own"
        assert log.head("a").seq == 1
        done = await log.append(append(event("a"), expected={"a": 1}))
        assert isinstance(done, Appended)
        assert await log.verify() == 2


@faulty
async def test_nothing_acknowledged_is_lost_when_a_crash_follows_a_fault(fault: Fault) -> None:
    engine = MemoryEngine()
    log = await engine.open()
    await log.append(append(event("a", b"1")))
    fault(engine)
    with pytest.raises(Unavailable):
        await log.append(append(event("a", b"lost")))
    await log.append(append(event("a", b"2")))
    await engine.crash(log)
    async with opened(engine) as again:
        assert [e.body for e in await again.read("a", 0, events_max=9)] == [b"1", b"2"]


@faulty
async def test_a_command_whose_outcome_was_unknown_may_be_sent_again(fault: Fault) -> None:
    engine = MemoryEngine()
    async with opened(engine) as log:
        fault(engine)
        with pytest.raises(Unavailable):
            await log.append(command("c1", event("a")))
        assert isinstance(await log.append(command("c1", event("a"))), Appended)
        assert log.head("a").seq == 1


async def test_a_power_cut_in_the_sync_keeps_all_of_an_append_or_nothing() -> None:
    kept = 0
    for seed in range(60):
        engine = MemoryEngine(seed)
        log = await engine.open()
        engine.disk.cut_in_sync = True
        with pytest.raises(Unavailable):
            await log.append(command("c1", event("a"), event("b")))
        await engine.crash(log)
        async with opened(engine) as again:
            repeated = await again.append(command("c1", event("a"), event("b")))
            kept += not isinstance(repeated, Appended)
            assert (again.head("a").seq, again.head("b").seq, again.position) == (1, 1, 2)
    assert 0 < kept < 60


async def test_a_log_that_cannot_find_out_where_it_stands_keeps_refusing_until_it_can() -> None:
    engine = MemoryEngine()
    async with opened(engine) as log:
        await log.append(append(event("a")))
        engine.disk.fence_off()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await log.append(append(event("a")))
        engine.disk.let_in()
        assert isinstance(await log.append(append(event("a"), expected={"a": 1})), Appended)


async def test_a_number_taken_before_a_fault_is_not_handed_out_again() -> None:
    engine = MemoryEngine()
    log = await engine.open()
    number = log.take("mail")
    full(engine)
    with pytest.raises(Unavailable):
        await log.append(append(event("a")))
    assert log.take("mail") == number + 1
    await log.append(append(event("a")))
    await engine.crash(log)
    async with opened(engine) as again:
        assert again.take("mail") == number + 2


async def test_a_failure_tells_no_secret() -> None:
    engine = MemoryEngine()
    async with opened(engine) as log:
        full(engine)
        with pytest.raises(Unavailable) as caught:
            await log.append(Append(ts_ms=1, secrets=(SecretPut("o", "p", Secret("hunter2")),)))
        assert str(caught.value) == "the log cannot write: No space left on device"
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)


async def test_a_probe_says_what_does_not_work_and_asks_the_disk_at_most_once_a_second() -> None:
    engine = MemoryEngine()
    async with opened(engine) as log:
        full(engine)
        sentence = "the log cannot write: No space left on device"
        assert await log.probe() == sentence
        syncs = engine.disk.syncs
        assert await log.probe() == sentence
        assert engine.disk.syncs == syncs
        engine.ambient.advance(1.0)
        assert await log.probe() is None
        assert engine.disk.syncs == syncs + 1


async def test_listeners_hear_nothing_of_a_failed_commit() -> None:
    engine = MemoryEngine()
    async with opened(engine) as log:
        heard: list[int] = []
        log.listen(lambda events: heard.extend(e.position for e in events))
        full(engine)
        with pytest.raises(Unavailable):
            await log.append(append(event("a")))
        assert heard == []
        await log.append(append(event("a")))
        assert heard == [1]
