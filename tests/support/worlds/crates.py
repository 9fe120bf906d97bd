"""Crates: entities whose effects, timers and followers nodes divide. What happens outside is noted.

A crate is carried (an effect of its own), weighed (a class of which a few run at once), rings once, and some
ring again and again.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from huahuo import (
    After,
    Command,
    Context,
    Decision,
    Effect,
    EffectRun,
    Entity,
    Event,
    Every,
    Followed,
    Outcome,
    Principal,
)
from huahuo.actors.domain.plugin import Entities

FOLLOWERS: Final = tuple(f"crm-{number}" for number in range(4))
WEIGHED_AT_ONCE: Final = 4
RETRIES: Final = 1000


class Packed(Event, type="crate_packed"): ...


class Carried(Event, type="crate_carried"): ...


class Weighed(Event, type="crate_weighed"): ...


class Rang(Event, type="crate_rang"): ...


class Crate(Struct, frozen=True):
    carried: int = 0
    weighed: int = 0
    rings: int = 0


class Pack(Command, action="pack_crate", creates=True):
    seconds: float
    again: bool = False


class Ring(Command): ...


class RingAgain(Command): ...


class Carry(Effect): ...


class Weigh(Effect): ...


@dataclass
class Outside:
    """What was done outside of the log, by all nodes."""

    seconds: float = 1.0
    """How long an effect takes at most."""
    fails: float = 0.1
    """The share of its runs that fail."""
    begun: defaultdict[str, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))
    """By class and crate: the node and time of each run."""
    running: Counter[str] = field(default_factory=Counter)
    """By node: runs of the class that has a bound."""
    delivered: defaultdict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    """By follower: (node, position) of each event that it was given."""


def crates(outside: Outside, node: str, chance: random.Random) -> Entity[Crate]:
    """The kind `crate` on this node."""
    crate = Entity("crate", Crate)

    @crate.evolve
    def packed(state: Crate, event: Packed) -> Crate:
        return state

    @crate.evolve
    def carried(state: Crate, event: Carried) -> Crate:
        return replace(state, carried=state.carried + 1)

    @crate.evolve
    def weighed(state: Crate, event: Weighed) -> Crate:
        return replace(state, weighed=state.weighed + 1)

    @crate.evolve
    def rang(state: Crate, event: Rang) -> Crate:
        return replace(state, rings=state.rings + 1)

    @crate.decide
    def pack(state: Crate, command: Pack, ctx: Context) -> Outcome:
        bells: list[Any] = [After(command.seconds, Ring())]
        if command.again:
            bells.append(Every(command.seconds, RingAgain()))
        return Decision([Packed()], effects=[Carry(), Weigh(), *bells])

    @crate.decide
    def ring(state: Crate, command: Ring, ctx: Context) -> Outcome:
        return [Rang()]

    @crate.decide
    def ring_again(state: Crate, command: RingAgain, ctx: Context) -> Outcome:
        return []

    async def work(name: str, run: EffectRun) -> None:
        outside.begun[f"{name} crate/{run.id}"].append((node, asyncio.get_running_loop().time()))
        await asyncio.sleep(chance.random() * outside.seconds)
        if chance.random() < outside.fails:
            raise ConnectionError

    @crate.effect(retries=RETRIES, backoff_s=0.2)
    async def carry(job: Carry, run: EffectRun) -> None:
        await work("carry", run)
        await run.finish(Carried())

    @crate.effect(retries=RETRIES, backoff_s=0.2, at_once=WEIGHED_AT_ONCE)
    async def weigh(job: Weigh, run: EffectRun) -> None:
        outside.running[node] += 1
        try:
            await work("weigh", run)
        finally:
            outside.running[node] -= 1
        if not run.state.weighed:
            await run.emit(Weighed())

    @crate.readers
    def may_read(state: Crate, who: Principal) -> bool:
        return True

    return crate


def follow(outside: Outside, node: str, entities: Entities) -> None:
    """The followers on this node."""

    def declare(name: str) -> None:
        @entities.following.follower(name, kinds=["crate"])
        async def take(events: Sequence[Followed]) -> None:
            outside.delivered[name] += [(node, event.position) for event in events]

    for name in FOLLOWERS:
        declare(name)
