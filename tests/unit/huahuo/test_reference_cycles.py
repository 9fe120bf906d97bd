"""What nobody waits for any more is freed at once: no reference cycle holds a reply.

The collector is off in these tests, so that only reference counts free anything.
"""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator

import pytest

from huahuo.actors import AskTimeout, LoopActor
from huahuo.actors import ask as ask_actor
from huahuo.actors.entities.entity import Query
from huahuo.eventstore.executor import ThreadExecutor
from huahuo.eventstore.model import Append
from huahuo.replay.feed import SharedReads
from tests.support.worlds.entities import Account, Deposit, Town, in_town

COUNT = 50


class Body:
    """Stands for a large reply."""


class Bodies:
    """Makes bodies, and knows which of them are still alive."""

    def __init__(self) -> None:
        self.built = 0
        self._refs: list[weakref.ref[Body]] = []

    def build(self) -> Body:
        self.built += 1
        body = Body()
        self._refs.append(weakref.ref(body))
        return body

    @property
    def alive(self) -> int:
        return sum(ref() is not None for ref in self._refs)

    def query(self, _seq: int, _state: Account) -> Body:
        return self.build()


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def abandoned(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def asking(town: Town, bodies: Bodies) -> list[asyncio.Task[object]]:
    return [
        asyncio.create_task(town.directory.ask("account", "a", Query(bodies.query))) for _ in range(COUNT)
    ]


def test_a_question_whose_asker_left_is_not_answered() -> None:
    async def test(town: Town) -> None:
        bodies = Bodies()
        gate = asyncio.Event()

        async def slow(_append: Append) -> None:
            await gate.wait()

        town.log.before_append = slow
        busy = asyncio.create_task(town.execute("a", Deposit(1)))
        await asyncio.sleep(0)
        questions = asking(town, bodies)
        await asyncio.sleep(0)
        await abandoned(*questions)
        gate.set()
        await busy
        assert await town.balance("a") == (1, 1)
        assert bodies.built == 0

    in_town(test)


def test_a_question_whose_asker_left_while_the_entity_loads_is_not_answered() -> None:
    async def test(town: Town) -> None:
        await town.execute("a", Deposit(1))
        bodies = Bodies()
        (first, *others) = asking(town, bodies)
        await asyncio.sleep(0)
        await abandoned(first, *others)
        assert await town.balance("a") == (1, 1)
        assert bodies.built == 0

    in_town(test)


def test_no_reply_outlives_its_asker() -> None:
    async def test(town: Town) -> None:
        bodies = Bodies()
        for _ in range(COUNT):
            question = asyncio.create_task(town.directory.ask("account", "a", Query(bodies.query)))
            while not bodies.built:  # noqa: ASYNC110  there is no event for "built, not yet received"
                await asyncio.sleep(0)
            await abandoned(question)
            del question
            bodies.built = 0
        await town.balance("a")
        assert bodies.alive == 0

    in_town(test)


def test_what_abandoned_questions_leave_needs_no_collector() -> None:
    async def test(town: Town) -> None:
        await town.balance("a")
        gc.collect()
        for _ in range(COUNT):
            questions = asking(town, Bodies())
            await asyncio.sleep(0)
            await abandoned(*questions)
            del questions
        await town.balance("a")
        assert gc.collect() < COUNT

    in_town(test)


def test_what_failed_and_late_questions_leave_needs_no_collector() -> None:
    async def test(town: Town) -> None:
        def fail(_seq: int, _state: Account) -> None:
            raise ValueError("a fault of the question")

        await town.balance("a")
        gc.collect()
        for _ in range(COUNT):
            with contextlib.suppress(ValueError):
                await town.directory.ask("account", "a", Query(fail))
            with contextlib.suppress(AskTimeout):
                await town.directory.ask("account", "b", Query(lambda _seq, _state: None), timeout_s=0)
            await town.balance("b")
        assert gc.collect() < COUNT

    in_town(test)


def test_what_an_abandoned_ask_of_an_actor_leaves_needs_no_collector() -> None:
    class Slow(LoopActor):
        async def on_receive(self, message: object) -> object:
            await asyncio.sleep(1)
            return message

    async def test(town: Town) -> None:
        ref = town.runtime.start(Slow)
        gc.collect()
        for _ in range(COUNT):
            question = asyncio.create_task(ask_actor(ref, "x"))
            await asyncio.sleep(0)
            await abandoned(question)
            del question
        await asyncio.sleep(2 * COUNT)
        assert gc.collect() < COUNT

    in_town(test)


def test_what_failed_reads_and_jobs_leave_needs_no_collector() -> None:
    async def read(_keys: object) -> list[object]:
        raise OSError("the disk")

    def job() -> None:
        raise OSError("the disk")

    async def main() -> None:
        reads: SharedReads[str, object] = SharedReads(read, 1)
        executor = ThreadExecutor(1, "test")
        for _ in range(COUNT):
            for failing in (reads.get("x"), executor.run(job)):
                with contextlib.suppress(OSError):  # `raises` would keep the frames
                    await failing
        executor.close()
        await asyncio.sleep(0)

    with asyncio.Runner() as runner:
        runner.get_loop()
        gc.collect()
        runner.run(main())
        assert gc.collect() < COUNT
