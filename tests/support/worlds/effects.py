"""Parcels whose effects do what a test says, over a disk that survives the lives of the service."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from huahuo import (
    CancelEffects,
    Command,
    Context,
    Decision,
    Effect,
    EffectFailed,
    EffectRun,
    Entity,
    Event,
    Outcome,
    Refused,
    Secret,
)
from huahuo.actors.domain.plugin import Entities, EntitySettings
from huahuo.actors.effects.runner import Effects
from huahuo.actors.entities.rendezvous_hash import Share
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.memory import ModelDisk
from huahuo.testing.world import VirtualAmbient, VirtualLoop, run_virtual
from tests.support.models.faulty_log import FaultyLog
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.node_logs import opened_log
from tests.support.worlds.orders import Engine

TIMEOUT_S = 1_000_000


class Posted(Event, type="parcel_posted"): ...


class Step(Event, type="parcel_step"):
    n: int


class Lost(Event, type="parcel_lost"):
    effect: str
    error_type: str
    attempts: int


class Parcel(Struct, frozen=True):
    steps: tuple[int, ...] = ()
    status: str = "new"


class Carry(Effect):
    """The effect of most tests. `n` tells one from another."""

    n: int = 0
    host: str = ""


class Weigh(Effect):
    n: int = 0


class Post(Command, action="post_parcel", creates=True):
    jobs: int = 1
    host: str = ""
    text: str = ""


class More(Command, action="carry_more"):
    jobs: int = 1
    host: str = ""
    weigh: bool = False
    password: str = ""


class Stop(Command, action="stop_parcel"):
    weigh: bool = False


class Shred(Command, action="shred_parcel"): ...


class Poke(Command, action="poke_parcel"): ...


type Behaviour = Callable[[Any, EffectRun], Awaitable[None]]


class Script:
    """What effects do. A test replaces `carry` and `weigh`; `runs` are those that began."""

    def __init__(self) -> None:
        self.runs: list[EffectRun] = []
        self.carry: Behaviour = one_step
        self.weigh: Behaviour = one_step


async def one_step(job: Any, run: EffectRun) -> None:
    """The simplest effect that says something."""
    await run.emit(Step(job.n))


def parcels(
    script: Script, *, decides_failures: bool = True, carries: bool = True, **rules: Any
) -> Entity[Parcel]:
    """The kind `parcel`, declared anew. `rules`: those of its effect `Carry`, which `carries` declares."""
    parcel = Entity("parcel", Parcel)

    @parcel.evolve
    def posted(state: Parcel, event: Posted) -> Parcel:
        return replace(state, status="posted")

    @parcel.evolve
    def step(state: Parcel, event: Step) -> Parcel:
        return replace(state, steps=(*state.steps, event.n))

    @parcel.evolve
    def lost(state: Parcel, event: Lost) -> Parcel:
        return replace(state, status="lost")

    @parcel.decide
    def stop(state: Parcel, command: Stop, ctx: Context) -> Outcome:
        return Decision(effects=[CancelEffects(Weigh if command.weigh else None)])

    @parcel.decide
    def shred(state: Parcel, command: Shred, ctx: Context) -> Outcome:
        return Decision(shred=True)

    @parcel.decide
    def poke(state: Parcel, command: Poke, ctx: Context) -> Outcome:
        return [Posted()]

    if decides_failures:

        @parcel.decide
        def failed(state: Parcel, command: EffectFailed, ctx: Context) -> Outcome:
            if command.error_type == "KeyError":
                return Refused("conflict", "we do not want to know")
            return [Lost(command.effect, command.error_type, command.attempts)]

    if carries:

        @parcel.decide
        def post(state: Parcel, command: Post, ctx: Context) -> Outcome:
            jobs = [Carry(n, command.host or command.text) for n in range(command.jobs)]
            return Decision([Posted()], effects=jobs)

        @parcel.decide
        def more(state: Parcel, command: More, ctx: Context) -> Outcome:
            made = [Weigh(n) if command.weigh else Carry(n, command.host) for n in range(command.jobs)]
            secrets = {"password": Secret(command.password)} if command.password else {}
            return Decision(effects=made, secrets=secrets)

        @parcel.effect(**rules)
        async def carry(job: Carry, run: EffectRun) -> None:
            script.runs.append(run)
            await script.carry(job, run)
    else:

        @parcel.decide
        def post(state: Parcel, command: Post, ctx: Context) -> Outcome:
            return [Posted()]

        @parcel.decide
        def more(state: Parcel, command: More, ctx: Context) -> Outcome:
            return []

    @parcel.effect
    async def weigh(job: Weigh, run: EffectRun) -> None:
        script.runs.append(run)
        await script.weigh(job, run)

    @parcel.readers
    def may_read(state: Parcel, who: Any) -> bool:
        return True

    return parcel


class Works:
    """The engine with effects. `crash` takes everything but the disk, as `kill -9` and a power cut do."""

    engine: Engine
    log: FaultyLog
    effects: Effects

    def __init__(self, settings: EntitySettings | None = None, *, seed: int = 1, **declared: Any) -> None:
        self.wrong_ms = 0
        """By how much the wall clock of the next life is wrong."""
        self.script = Script()
        self.disk = ModelDisk()
        self.lives = 0
        self.order: MemoryOrder | None = None
        """Of several nodes; `node` is the name of this one."""
        self.node = "one"
        self.shared = False
        """Whether nodes divide the work, by `divide`."""
        self.declare: Callable[[Entities], None] | None = None
        self._settings = settings
        self._declared = declared
        self._chance = Random(seed)

    async def open(self, entities: Sequence[Entity[Any]] | None = None) -> None:
        """Begin a life, and go on with what the last one left."""
        self.lives += 1
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        ambient = self.ambient = VirtualAmbient(loop, self.lives)
        ambient.jump(self.wrong_ms)
        self.log = await opened_log(self.disk, ambient, self.order, self.node)
        declared = [self.parcels()] if entities is None else list(entities)
        self.engine = Engine(
            self.log, declared, self._settings, ambient=ambient, declare=self.declare, shared=self.shared
        )
        self.effects = self.engine.api.effects
        await self.engine.brought.work()

    def parcels(self) -> Entity[Parcel]:
        """Parcels with this script, as they were declared."""
        return parcels(self.script, **self._declared)

    async def divide(self, *nodes: str) -> None:
        """Do the part of this node, of what these divide."""
        await self.engine.brought.divide(Share(self.node, nodes))

    async def close(self, drain_s: float = 5.0) -> None:
        """An orderly end."""
        await self.engine.brought.drain(drain_s)
        await self.engine.brought.close()
        await self.engine.directory.close()
        await self.engine.runtime.stop()
        await self.log.close()

    async def crash(self) -> None:
        """End without a word, and start again."""
        self.disk.crash(self._chance)
        await self.abandon()
        await self.open()

    async def abandon(self) -> None:
        """What is left of a life after its disk is gone."""
        self.effects.draining = True
        await self.engine.brought.close()
        with contextlib.suppress(EventStoreError):
            await self.engine.directory.close(1.0)
        await self.engine.runtime.stop()

    async def send(self, action: str, **fields: Any) -> dict[str, Any]:
        """A command of Alice's."""
        said: dict[str, Any] = await self.engine.send(action, **fields)
        return said

    async def post(self, **fields: Any) -> int:
        """A new parcel's id."""
        said = await self.send("post_parcel", **fields)
        assert said["type"] == "success", said
        number: int = said["parcel_id"]
        return number

    async def idle(self) -> None:
        """Until no effect is open in memory."""
        await self.effects.idle()

    async def facts(self, parcel: int = 1) -> list[dict[str, Any]]:
        """The events on the stream of a parcel's effects, without time."""
        return await self.engine.bodies(f"effect/parcel/{parcel}")

    async def types(self, parcel: int = 1) -> list[str]:
        """Their types, with the outcome of an end."""
        return [
            fact["type"] + (f" {fact['outcome']}" if "outcome" in fact else "")
            for fact in await self.facts(parcel)
        ]

    async def state(self, parcel: int = 1) -> Parcel:
        """The state of a parcel."""
        state, _ = await self.engine.api.state("parcel", parcel)
        assert isinstance(state, Parcel)
        return state

    async def open_rows(self) -> int:
        """How many rows the table of open effects has."""
        return len(await self.log.rows("effect", "", limit=10_000))

    async def sound(self) -> None:
        """Every effect that was asked for has ended exactly once, and none runs or speaks after its end."""
        events = await self.log.read("log", 0, events_max=100_000, bytes_max=1 << 30)
        asked: set[int] = set()
        ended: dict[int, str] = {}
        for event in events:
            if not event.stream.startswith("effect/"):
                continue
            fact = msgspec.json.decode(event.body, type=dict[str, Any])
            match fact["type"]:
                case "effect_requested":
                    assert fact["id"] not in asked
                    asked.add(fact["id"])
                case "effect_ended":
                    assert fact["id"] not in ended, f"two ends of {fact['id']}"
                    ended[fact["id"]] = fact["outcome"]
                case "effect_claimed" | "effect_failed":
                    assert fact["id"] not in ended, f"{fact['type']} after the end of {fact['id']}"
        assert asked == set(ended), f"without an end: {asked - set(ended)}"
        assert await self.open_rows() == 0


def in_works(
    test: Callable[[Works], Awaitable[None]], settings: EntitySettings | None = None, **declared: Any
) -> None:
    """Run `test` in virtual time. At its end no effect may be left that has not ended once."""

    async def main() -> None:
        works = Works(settings, **declared)
        async with asyncio.timeout(TIMEOUT_S):
            await works.open()
            try:
                await test(works)
                await works.idle()
                await works.sound()
            finally:
                await works.close()

    run_virtual(main())


def on_nodes(
    test: Callable[..., Awaitable[None]],
    opened: Callable[[Works], Awaitable[None]] = Works.open,
    *,
    names: str = "ab",
    shared: bool = True,
    **declared: Any,
) -> None:
    """Run `test` on nodes with one ordered log. If they are `shared`, they divide nothing yet."""

    async def run() -> None:
        order = MemoryOrder()
        nodes = [Works(seed=number, **declared) for number, _ in enumerate(names, 1)]
        for node, name in zip(nodes, names, strict=True):
            node.order, node.node, node.shared = order, name, shared
            await opened(node)
        await test(*nodes)
        for node in nodes:
            await node.close(0)

    run_virtual(run())


async def never(_job: Any, _run: EffectRun) -> None:
    await asyncio.Event().wait()


async def broken(_job: Any, _run: EffectRun) -> None:
    raise ConnectionError("the password is 1234")
