"""Group commit: which appends are grouped, which wait, and what a blocked disk means for the callers."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core import writer
from huahuo.eventstore.errors import QueueFull
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.model import Append, Appended, Duplicate
from tests.support.worlds.logs import MASTER_KEY, append, event


async def turns() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


class HeldExecutor:
    """Runs each job, or returns its result, only when the test says so."""

    def __init__(self) -> None:
        self.held = False
        self.results_held = False
        self.waiting: list[asyncio.Future[None]] = []

    async def run[T](self, job: Callable[[], T]) -> T:
        if self.held:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            await turn
        result = job()
        if self.results_held:
            self.results_held = False
            turn = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            await turn
        return result

    def close(self, *, wait: bool = True) -> None:
        """Nothing to free."""

    async def let_one_go(self) -> None:
        self.waiting.pop(0).set_result(None)
        await turns()


async def opened(disk: ModelDisk, executor: HeldExecutor, ambient: FakeAmbient | None = None) -> MemoryLog:
    return await MemoryLog.open(
        disk, ambient=ambient or FakeAmbient(1), master_key=MASTER_KEY, build="b", executor=executor
    )


def start(log: MemoryLog, *appends: Append) -> list[asyncio.Task[object]]:
    return [asyncio.ensure_future(log.append(one)) for one in appends]


@pytest.mark.parametrize(
    ("body", "count", "groups"),
    [(b"{}", 2 * writer.GROUP_EVENTS_MAX, 2), (b"x" * 300_000, 7, 3)],
    ids=["by events", "by bytes"],
)
async def test_a_group_is_bounded(body: bytes, count: int, groups: int) -> None:
    disk = ModelDisk()
    log = await opened(disk, HeldExecutor())
    syncs = disk.syncs
    await asyncio.gather(*start(log, *[append(event("a", body))] * count))
    assert disk.syncs - syncs == groups
    await log.close()


async def test_an_append_larger_than_a_group_goes_alone() -> None:
    disk = ModelDisk()
    log = await opened(disk, HeldExecutor())
    syncs = disk.syncs
    large = append(*[event("a")] * (writer.GROUP_EVENTS_MAX + 1))
    large_last = 1 + writer.GROUP_EVENTS_MAX + 1
    done = await asyncio.gather(*start(log, append(event("a")), large, append(event("a"))))
    assert disk.syncs - syncs == 3
    assert [one.position for one in done if isinstance(one, Appended)] == [1, large_last, large_last + 1]
    await log.close()


def by(user: str, size: int = 2) -> Append:
    """An append of `size` bytes by this user, to the stream of the same name."""
    return msgspec.structs.replace(append(event(user, b"x" * size)), principal=user)


class Hears:
    """A hearer that notes what it was told, all of a commit as one entry."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.told: list[list[tuple[str, int | str]]] = []
        self.raises = False
        self.takes: Callable[[], object] = bool

    def heard(self, outcomes: Sequence[tuple[Any, Appended | Duplicate | Exception]]) -> None:
        self.takes()
        self.told.append(
            [
                (about, one.position if isinstance(one, Appended) else type(one).__name__)
                for about, one in outcomes
            ]
        )
        if self.raises:
            raise RuntimeError("a fault of the hearer")

    def ask(self, *texts: str, **more: Any) -> None:
        for text in texts:
            self.log.submit_for(self, text, append(event("a"), **more))


async def test_a_hearer_that_fails_ends_neither_the_writer_nor_what_others_are_told() -> None:
    log = await opened(ModelDisk(), HeldExecutor())
    bad, good = Hears(log), Hears(log)
    bad.raises = True
    bad.ask("one")
    good.ask("two")
    await turns()
    assert good.told == [[("two", 2)]]
    assert isinstance(await log.append(append(event("a"))), Appended)


async def test_a_user_whose_backlog_is_too_large_is_told_so_and_nothing_is_written() -> None:
    executor = HeldExecutor()
    log = await opened(ModelDisk(), executor)
    log.writer.queue_bytes_per_user, log.writer.queue_bytes_max = 10_000, 1 << 20
    executor.held = True
    first = start(log, by("user/1"))
    await turns()
    waiting = start(log, *[by("user/1", 4000)] * 2)
    await turns()
    with pytest.raises(QueueFull, match=r"user/1 .* try again later"):
        await log.append(by("user/1", 4000))
    with pytest.raises(QueueFull):
        log.submit(by("user/1", 4000))
    others = start(log, by("user/2", 4000), by("service", 50_000))
    await turns()
    executor.held = False
    await executor.let_one_go()
    await asyncio.gather(*first, *waiting, *others)
    assert (log.head("user/1").seq, log.head("user/2").seq, log.writer.refused) == (3, 1, 2)
    assert log.writer.queue_bytes == 0
    await log.append(by("user/1", 4000))
    await log.close()


async def test_a_user_has_room_for_the_next_message_while_little_of_it_waits() -> None:
    executor = HeldExecutor()
    log = await opened(ModelDisk(), executor)
    log.writer.queue_bytes_per_user, log.writer.queue_bytes_max = 40_000, 1 << 20
    executor.held = True
    tasks = start(log, by("user/1"))
    await turns()
    tasks += start(log, *[by("user/1", 4_000)] * 2)
    await turns()
    assert (log.writer.has_room("user/1"), log.writer.has_room("user/2"), log.writer.has_room("service")) == (
        False,
        True,
        True,
    )
    executor.held = False
    await executor.let_one_go()
    await asyncio.gather(*tasks)
    assert log.writer.has_room("user/1")
    await log.close()


async def test_few_users_that_fill_the_queue_do_not_keep_another_one_out() -> None:
    executor = HeldExecutor()
    log = await opened(ModelDisk(), executor)
    log.writer.queue_bytes_per_user, log.writer.queue_bytes_max = 10_000, 20_000
    executor.held = True
    tasks = start(log, by("user/1"))
    await turns()
    tasks += start(log, by("user/1", 9_000), by("user/2", 9_000))
    await turns()
    with pytest.raises(QueueFull):
        await log.append(by("user/3", 9_000))
    tasks += start(log, by("user/3", 5_000))
    await turns()
    executor.held = False
    await executor.let_one_go()
    await asyncio.gather(*tasks)
    await log.close()


async def test_one_users_backlog_of_many_groups_delays_another_by_one_group() -> None:
    executor = HeldExecutor()
    log = await opened(ModelDisk(), executor)
    executor.held = True
    tasks = start(log, by("user/1"))
    await turns()
    tasks += start(log, *[by("user/1", 100_000)] * 100)
    await turns()
    [calm] = start(log, by("user/2"))
    await turns()
    await executor.let_one_go()  # the group that was under way
    await executor.let_one_go()
    assert calm.done()
    assert log.head("user/1").seq < 20
    executor.held = False
    await executor.let_one_go()
    await asyncio.gather(*tasks)
    await log.close()


async def test_closing_waits_for_reads_under_way() -> None:
    executor = HeldExecutor()
    log = await opened(ModelDisk(), executor)
    await log.append(append(event("a")))
    executor.held = True
    read = asyncio.ensure_future(log.read("a", 0, events_max=1))
    await asyncio.sleep(0)
    executor.held = False
    closing = asyncio.ensure_future(log.close())
    await turns()
    assert not closing.done()
    await executor.let_one_go()
    assert len(await read) == 1
    await closing


class Busy(FakeAmbient):
    """Every look at the processor time of a thread finds a second more."""

    def thread_s(self) -> float:
        self.advance(1.0)
        return self.monotonic_s()


async def test_each_principal_pays_for_its_part_of_a_commit() -> None:
    executor = HeldExecutor()
    log = await MemoryLog.open(
        ModelDisk(), ambient=Busy(1), master_key=MASTER_KEY, build="b", executor=executor
    )
    paid: dict[str, float] = {}
    log.bill(lambda principal, cost_s: paid.update({principal: paid.get(principal, 0.0) + cost_s}))
    executor.held = True
    blocker = start(log, append(event("a")))
    await turns()
    of_one = msgspec.structs.replace(append(*[event("a")] * 30), principal="user/1")
    of_two = msgspec.structs.replace(append(event("b")), principal="user/2")
    both = start(log, of_one, of_two)
    await executor.let_one_go()
    await turns()
    paid.clear()
    await executor.let_one_go()
    await asyncio.gather(*blocker, *both)
    assert sum(paid.values()) == pytest.approx(1.0)
    assert paid["user/1"] > 10 * paid["user/2"] > 0
    executor.held = False
    await log.close()


async def test_a_log_closes_although_its_writer_was_cancelled_before_it_began() -> None:
    log = await opened(ModelDisk(), HeldExecutor())
    asking = asyncio.ensure_future(log.append(append(event())))
    while (began := [task for task in asyncio.all_tasks() if task.get_name() == "log writer"]) == []:  # noqa: ASYNC110
        await asyncio.sleep(0)
    began[0].cancel()
    closing = asyncio.ensure_future(log.close())
    for _ in range(100):
        await asyncio.sleep(0)
    asking.cancel()
    assert closing.done()
