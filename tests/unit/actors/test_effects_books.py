"""A plug-in that records its effects itself gets the runner's turns, stops and resumes all the same."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Raw

from huahuo import EffectRun, RunOver
from huahuo.actors.effects.books import Hold
from huahuo.actors.effects.facts import CANCELLED, DONE, FAILED, OpenEffect, Start
from huahuo.actors.effects.queue import Bounds, Entry, Failure, Spec
from huahuo.actors.effects.runner import Effects
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Append, RowDrop, RowPut
from tests.support.models.faulty_log import FaultyLog, faulty_log

pytestmark = pytest.mark.virtual_time

TABLE = "chores"


@asynccontextmanager
async def opened() -> AsyncIterator[FaultyLog]:
    log = await faulty_log()
    try:
        yield log
    finally:
        await log.close()


def effect_of(number: int) -> OpenEffect:
    return OpenEffect("house", "1", "chore", Raw(b"%d" % number), since_ms=0, user=42)


class Chores:
    """Books that are one table. Rows with the value `aside` are no work for the runner."""

    table = TABLE

    def __init__(self, log: FaultyLog) -> None:
        self._log = log
        self.said: list[tuple[int, Any]] = []
        self.ends: list[tuple[int, str]] = []
        self.refused: set[int] = set()
        """Effects that nobody may claim any more."""

    async def put(self, *numbers: int, value: bytes = b"ours") -> None:
        rows = tuple(RowPut(TABLE, "", bytes([n]), value) for n in numbers)
        await self._log.append(Append(ts_ms=0, rows=rows, principal="service"))

    async def drop(self, number: int, outcome: str) -> None:
        self.ends.append((number, outcome))
        await self._log.append(
            Append(ts_ms=0, rows=(RowDrop(TABLE, "", bytes([number])),), principal="service")
        )

    def read(self, key: bytes, value: bytes) -> tuple[int, OpenEffect] | None:
        return None if value == b"aside" else (key[0], effect_of(key[0]))

    def row_key(self, entry: Entry) -> bytes:
        return bytes([entry.id])

    @asynccontextmanager
    async def hold(self, entry: Entry) -> AsyncIterator[Hold]:
        if entry.id in self.refused:
            raise RunOver("ended")
        yield ChoreHold(self, entry.id)

    async def cancelled(self, entry: Entry) -> str | None:
        await self.drop(entry.id, CANCELLED)
        return CANCELLED


class ChoreHold:
    attempt = 1
    position = 0

    def __init__(self, books: Chores, number: int) -> None:
        self.over = ""
        self._books = books
        self._number = number

    async def state(self) -> str:
        return f"chore {self._number}"

    async def say(self, events: Sequence[Any], *, ends: bool) -> str:
        self._books.said += [(self._number, event) for event in events]
        if ends:
            await self._books.drop(self._number, DONE)
        return "said"

    async def again(self, error_type: str, due_ms: int, row: OpenEffect) -> None: ...

    async def give_up(self, failure: Failure) -> str:
        await self._books.drop(self._number, FAILED)
        return FAILED

    async def end(self) -> str:
        await self._books.drop(self._number, DONE)
        return DONE


def runner(
    log: FaultyLog, books: Chores, work: Callable[[Any, EffectRun], Awaitable[None]], at_once: int = 10
) -> Effects:
    spec = Spec(kind="house", name="chore", handler=work, read=int, key=int, retries=0)
    return Effects(
        log=log,
        ambient=FakeAmbient(),
        books=books,
        specs={("house", "chore"): spec},
        bounds=Bounds(at_once=at_once),
    )


async def forever(_job: Any, _run: EffectRun) -> None:
    await asyncio.Event().wait()


async def test_a_start_runs_what_the_table_has_and_leaves_alone_what_is_not_the_runners() -> None:
    async def work(job: int, run: EffectRun) -> None:
        assert (run.id, run.state) == (1, f"chore {job}")
        await run.emit("swept")
        await run.finish("done")

    async with opened() as log:
        books = Chores(log)
        await books.put(1, 2)
        await books.put(3, value=b"aside")
        effects = runner(log, books, work)
        await effects.start()
        await effects.idle()
        assert sorted(books.said) == [(1, "done"), (1, "swept"), (2, "done"), (2, "swept")]
        assert sorted(books.ends) == [(1, DONE), (2, DONE)]
        assert [key for key, _ in await log.rows(TABLE, "", limit=5)] == [bytes([3])]
        await effects.close()


async def test_a_cancelled_one_is_stopped_where_it_runs_and_does_not_begin_where_it_waits() -> None:
    async with opened() as log:
        books = Chores(log)
        effects = runner(log, books, forever, at_once=1)
        await effects.start()
        for number in (1, 2):
            effects.committed(Start(number, effect_of(number)), "house/1")
        await asyncio.sleep(1)
        assert (effects.running, effects.waiting) == (1, 1)
        effects.cancelled(2)
        effects.cancelled(1)
        await effects.idle()
        assert sorted(books.ends) == [(1, CANCELLED), (2, CANCELLED)]
        await effects.close()


async def test_one_that_nobody_may_claim_is_forgotten() -> None:
    async with opened() as log:
        books = Chores(log)
        books.refused = {1}
        effects = runner(log, books, forever)
        await effects.start()
        effects.committed(Start(1, effect_of(1)), "house/1")
        await effects.idle()
        assert (books.ends, effects.running) == ([], 0)
        await effects.close()


async def test_a_run_that_a_stop_cut_short_may_say_nothing_more_and_stays_open() -> None:
    runs: list[EffectRun] = []

    async def work(job: int, run: EffectRun) -> None:
        runs.append(run)
        await asyncio.Event().wait()

    async with opened() as log:
        books = Chores(log)
        await books.put(1)
        effects = runner(log, books, work)
        await effects.start()
        await asyncio.sleep(1)
        await effects.drain(2)
        await effects.close()
        with pytest.raises(RunOver, match="cancelled"):
            await runs[0].emit("too late")
        assert (books.said, books.ends) == ([], [])
        next_life = runner(log, books, work)
        await next_life.start()
        await asyncio.sleep(1)
        assert len(runs) == 2
        await next_life.close()


async def test_one_that_raises_for_the_last_time_is_given_up() -> None:
    async def work(job: int, run: EffectRun) -> None:
        raise ValueError

    async with opened() as log:
        books = Chores(log)
        await books.put(1)
        effects = runner(log, books, work)
        await effects.start()
        await effects.idle()
        assert books.ends == [(1, FAILED)]
        await effects.close()
