"""A follower of orders and what it writes outside of the log, over a disk that outlives the service."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from huahuo import Followed, FollowerRun
from huahuo.actors.domain.plugin import Entities
from huahuo.actors.followers.follower import Follower
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.memory import ModelDisk
from huahuo.eventstore.model import Append, Appended, NewEvent
from huahuo.testing.world import VirtualAmbient, VirtualLoop, run_virtual
from tests.support.models.faulty_log import FaultyLog, StepExecutor
from tests.support.worlds.orders import Engine, orders

NAME = "orders-to-crm"
TIMEOUT_S = 10_000_000

type Behaviour = Callable[[Sequence[Followed], FollowerRun], Awaitable[None]]


class Outside:
    """What the follower wrote: it outlives every crash. `cursor` is written with `wrote`, in one step."""

    def __init__(self) -> None:
        self.wrote: list[str] = []
        self.cursor = 0
        self.asked = 0

    async def take(self, events: Sequence[Followed], run: FollowerRun) -> None:
        """Write the events and the cursor together, as a transaction does."""
        await asyncio.sleep(0)
        self.wrote += names(events)
        self.cursor = run.position

    async def read_cursor(self) -> int:
        """The cursor, as the application reads it from its database."""
        await asyncio.sleep(0)
        self.asked += 1
        return self.cursor


def names(events: Sequence[Followed]) -> list[str]:
    """Stream and seq of each."""
    return [f"{event.stream}#{event.seq}" for event in events]


class Crm:
    """The engine with one follower. `crash` takes everything but the disk and what is outside."""

    engine: Engine
    log: FaultyLog

    def __init__(self, *, seed: int = 1, own_cursor: bool = False, **declared: Any) -> None:
        self.disk = ModelDisk()
        self.lives = 0
        self.outside = Outside()
        self.calls: list[tuple[list[str], FollowerRun]] = []
        self.behave: Behaviour = self.outside.take
        self._chance = Random(seed)
        self._declared = {"kinds": ["order"], "backoff_s": 1.0, **declared}
        if own_cursor:
            self._declared["cursor"] = self.outside.read_cursor

    @property
    def follower(self) -> Follower:
        """The follower of this life."""
        return self.engine.api.followers.by_name[NAME]

    async def open(self) -> None:
        """Begin a life."""
        self.lives += 1
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        ambient = VirtualAmbient(loop, self.lives)
        self.log = await FaultyLog.open(
            self.disk, ambient=ambient, master_key=bytes(32), build="test", executor=StepExecutor()
        )
        self.engine = Engine(self.log, [orders()], ambient=ambient, declare=self._declare)
        await self.engine.brought.work()

    def _declare(self, entities: Entities) -> None:
        @entities.following.follower(NAME, **self._declared)
        async def orders_to_crm(events: Sequence[Followed], run: FollowerRun) -> None:
            self.calls.append((names(events), run))
            await self.behave(events, run)

    async def close(self, drain_s: float = 5.0) -> None:
        """An orderly end."""
        await self.engine.brought.drain(drain_s)
        await self.engine.brought.close()
        await self._leave()
        await self.log.close()

    async def crash(self) -> None:
        """End without a word, and start again."""
        self.disk.crash(self._chance)
        await self.engine.brought.close()
        await self._leave()
        await self.open()

    async def _leave(self) -> None:
        with contextlib.suppress(EventStoreError):
            await self.engine.directory.close(1.0)
        await self.engine.runtime.stop()

    async def write(self, *streams: str) -> Appended:
        """One commit with an event on each of these streams."""
        events = tuple(NewEvent(stream, "t", b'{"type":"t","timestamp":"now"}') for stream in streams)
        return await self.log.append_soundly(Append(ts_ms=1, events=events))

    async def idle(self) -> None:
        """Until the follower has nothing to do."""
        await self.engine.api.followers.idle()


def in_crm(test: Callable[[Crm], Awaitable[None]], **declared: Any) -> None:
    """Run `test` with a follower, in virtual time."""

    async def main() -> None:
        crm = Crm(**declared)
        async with asyncio.timeout(TIMEOUT_S):
            await crm.open()
            try:
                await test(crm)
            finally:
                await crm.close()

    run_virtual(main())


def fail_for(crm: Crm, *streams: str) -> None:
    """From now on the follower fails for events of these streams."""

    async def behave(events: Sequence[Followed], run: FollowerRun) -> None:
        if any(event.stream in streams for event in events):
            raise ConnectionError("crm.example is secret")
        await crm.outside.take(events, run)

    crm.behave = behave


def wrote(*numbers: int) -> list[str]:
    return [f"order/{n}#1" for n in numbers]
