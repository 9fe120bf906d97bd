"""Bells that ring by timers, in an engine that can crash: its log survives on a disk, its clock goes on."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from huahuo import After, CancelEffects, Command, Context, Decision, Entity, Event, Every, Outcome, Refused
from huahuo.actors.domain.writing import Sent
from huahuo.actors.entities.decider import Origin
from huahuo.actors.timers.timer import STREAMS, TABLE, PendingTimers, Timer, from_row
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.memory import ModelDisk
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.testing.world import VirtualLoop, run_virtual, virtual_loop
from tests.support.models.faulty_log import FaultyLog, faulty_log
from tests.support.worlds.orders import Engine


class Hung(Event, type="bell_hung"): ...


class Rang(Event, type="bell_rang"):
    how: str
    id: str
    at_ms: int


class Bell(Struct, frozen=True):
    rings: int = 0


class Hang(Command): ...


class Ring(Command):
    """What a timer sends. `how`: rings, is refused, does nothing, fails, or sets another timer."""

    how: str = "ring"


class SetOnce(Command):
    seconds: float
    name: str = ""
    how: str = "ring"


class SetEvery(Command):
    seconds: float
    name: str = ""
    how: str = "ring"


class Silence(Command): ...


class Fails(Exception):  # noqa: N818  the bell does
    """A fault of the application."""


def bells(*, ring: str = "") -> Entity[Bell]:
    """The kind `bell`, declared anew. `ring`: another stored name of its command."""
    bell = Entity("bell", Bell, key=str)

    @bell.evolve
    def hung(state: Bell, event: Hung) -> Bell:
        return state

    @bell.evolve
    def rang(state: Bell, event: Rang) -> Bell:
        return replace(state, rings=state.rings + 1)

    @bell.decide
    def hang(state: Bell, command: Hang, ctx: Context) -> Outcome:
        return [Hung()]

    command_of: type[Any] = Ring  # not by its name in the handler: with `ring` nothing decides it

    def on_ring(state: Bell, command: Any, ctx: Context) -> Outcome:
        events = [Rang(command.how, ctx.command_id, ctx.now_ms)]
        match command.how:
            case "refuse":
                return Refused("too_late")
            case "nothing":
                return []
            case "fail":
                raise Fails
            case "again":
                again = [After(10, command_of("ring")), After(20, command_of("ring"), name="other")]
                return Decision(events, effects=again)
            case "silence":
                return Decision(events, effects=[CancelEffects()])
        return events

    if ring:

        class Other(Command, name=ring):
            how: str = "ring"

        command_of = Other
        bell.decide(Other)(on_ring)
    else:
        bell.decide(Ring)(on_ring)

        @bell.decide
        def once(state: Bell, command: SetOnce, ctx: Context) -> Outcome:
            return Decision(effects=[After(command.seconds, Ring(command.how), name=command.name)])

        @bell.decide
        def every(state: Bell, command: SetEvery, ctx: Context) -> Outcome:
            return Decision(effects=[Every(command.seconds, Ring(command.how), name=command.name)])

    @bell.decide
    def silence(state: Bell, command: Silence, ctx: Context) -> Outcome:
        return Decision(effects=[CancelEffects()])

    return bell


class LoopClock(FakeAmbient):
    """The virtual loop's clock, which survives crashes; `jump_s` is by how much the wall clock was set."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self.jump_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + round((self._loop.time() + self.jump_s) * 1000)

    def monotonic_s(self) -> float:
        return self._loop.time()


class Tower:
    """An engine of bells, life after life."""

    log: FaultyLog
    engine: Engine

    def __init__(self, seed: int = 0) -> None:
        self.clock = LoopClock(virtual_loop())
        self._disk = ModelDisk()
        self._rng = random.Random(seed)
        self._foreign = asyncio.all_tasks()

    async def start(self, entity: Entity[Bell] | None = None) -> None:
        """Begin a life."""
        self.log = await faulty_log(self._disk)
        self.engine = Engine(self.log, [entity or bells()], ambient=self.clock)
        await self.engine.brought.work()

    async def crash(self) -> None:
        """End this life as a power cut does; the time goes on."""
        mine = asyncio.all_tasks() - self._foreign - {asyncio.current_task()}
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
        await self.engine.brought.close()
        self._disk.crash(self._rng)

    async def again(self, entity: Entity[Bell] | None = None) -> None:
        """Crash, and begin another life."""
        await self.crash()
        await self.start(entity)

    async def stop(self) -> None:
        """End in good order."""
        await self.engine.brought.close()
        await self.engine.directory.close()
        await self.engine.runtime.stop()
        await self.log.close()

    async def do(self, command: Command, bell: str = "b", command_id: str = "") -> None:
        """Send a command as the service does."""
        api = self.engine.api
        await api.execute(
            self.engine.plugin.catalog.by_kind["bell"],
            bell,
            Sent(command, None, command_id),
            Origin("service", command_id),
        )

    async def hang(self, bell: str = "b") -> None:
        """Make a bell."""
        await self.do(Hang(), bell)

    async def events(self, stream: str) -> list[StoredEvent]:
        """All of a stream."""
        return await self.log.read(stream, 0, events_max=100_000, bytes_max=1 << 30)

    async def rings(self, bell: str = "b") -> list[float]:
        """When it rang, in seconds since the beginning."""
        began = FakeAmbient().now_ms()
        return [(ring.at_ms - began) / 1000 for ring in await self.rung(bell)]

    async def rung(self, bell: str = "b") -> list[Rang]:
        """Its rings."""
        return [
            msgspec.json.decode(event.body, type=Rang)
            for event in await self.events(f"bell/{bell}")
            if event.type == "bell_rang"
        ]

    async def fired(self) -> list[StoredEvent]:
        """The facts that timers fired, of all bells."""
        return [event for event in await self.events(LOG_STREAM) if event.type == "timer_fired"]

    async def pending(self) -> list[Timer]:
        """The table of timers."""
        return [from_row(*row) for row in await self.log.rows(TABLE, "", after=b"", limit=1_000_000)]

    async def judge(self) -> None:
        """Read what happened from the log: each firing ends a timer that was set, and was due then."""
        pending: dict[str, dict[str, Timer]] = {}
        fired: list[tuple[str, str, int]] = []
        position = -1
        while position != self.log.position:  # both of one moment
            position = self.log.position
            events, table = await self.events(LOG_STREAM), await self.pending()
        for event in events:
            if event.stream.startswith(STREAMS):
                mine = pending.setdefault(event.entity, {})
                body = msgspec.json.decode(event.body)
                if body["type"] == "timer_fired":
                    timer = mine[body["name"]]
                    assert timer.due_ms == body["due_ms"], "it fires what is pending"
                    assert event.command_id == timer.id
                    fired.append((event.entity, timer.name, timer.due_ms))
                PendingTimers().evolve(mine, event)
            elif event.type == "bell_rang":
                assert event.command_id.startswith(f"timer/{event.stream}/")
        assert len(set(fired)) == len(fired), "never twice for one due time"
        expected = sorted((t.key, t.command, t.fields) for mine in pending.values() for t in mine.values())
        assert [(t.key, t.command, t.fields) for t in table] == expected, "the table is the log's"


def in_tower(test: Callable[[Tower], Awaitable[None]], seed: int = 0) -> None:
    """Run `test` with a bell called `b`, in virtual time."""

    async def main() -> None:
        tower = Tower(seed)
        await tower.start()
        await tower.hang()
        async with asyncio.timeout(10_000_000):
            await test(tower)
        with contextlib.suppress(Exception):
            await tower.stop()

    run_virtual(main())
