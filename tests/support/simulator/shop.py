"""The application that the simulated service runs: parcels with effects and timers, and a follower.

Each event carries the nonce that its command was given, so that a place that was lost and used again is seen.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from msgspec import Struct
from msgspec.structs import replace

from huahuo import (
    After,
    CancelEffects,
    Command,
    Context,
    Decision,
    Effect,
    EffectFailed,
    EffectRun,
    Entity,
    Event,
    Every,
    Followed,
    FollowerRun,
    Outcome,
    Principal,
    Refused,
    to,
)
from huahuo.app.application import Application
from huahuo.mailcheck import mail

RINGS = 3
"""How often the bell of a parcel rings."""


class Opened(Event, type="parcel_opened"):
    nonce: str
    owner: int


class Added(Event, type="parcel_added"):
    nonce: str


class Weighed(Event, type="parcel_added"):
    """`Added` as the newer code has it."""

    nonce: str
    weight: int


class Sealed(Event, type="parcel_sealed"):
    """The older code does not know it."""

    nonce: str


class Wrapped(Event, type="parcel_wrapped"):
    job: str


class Unwrapped(Event, type="parcel_unwrapped"): ...


class Carried(Event, type="parcel_carried"):
    job: str
    step: int


class Rang(Event, type="parcel_rang"):
    count: int


class Failed(Event, type="parcel_failed"):
    attempts: int


class Noted(Event, type="parcel_noted"):
    parcel: int
    text: str


class Printed(Event, type="flyer_printed"):
    nonce: str
    owner: int


class Stamped(Event, type="flyer_stamped"):
    nonce: str


class Flyer(Struct, frozen=True):
    owner: int = 0
    stamps: int = 0


class Parcel(Struct, frozen=True):
    owner: int = 0
    nonces: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()
    rings: int = 0


class Heavy(Parcel, frozen=True):
    """A parcel as the newer code has it."""

    weight: int = 0
    seals: int = 0
    wraps: tuple[int, int] = (0, 0)
    """How often it was wrapped, and unwrapped."""


class Carry(Effect):
    job: str
    steps: int
    failures: int


class Wrap(Effect):
    """The older code does not know it, nor `Unwrap`."""

    job: str


class Open(Command, action="open_parcel", creates=True):
    nonce: str
    text: str = ""


class Add(Command, action="add_to_parcel"):
    nonce: str


class Seal(Command, action="seal_parcel"):
    nonce: str


class Stop(Command, action="stop_parcel"):
    nonce: str


class Print(Command, action="print_flyer", creates=True):
    nonce: str


class Stamp(Command, action="stamp_flyer"):
    nonce: str


class Ring(Command): ...


class Unwrap(Command): ...


class Bell(Command): ...


@dataclass
class Book:
    """What a follower wrote down: it outlives every crash."""

    kinds: tuple[str, ...]
    followed: list[tuple[int, str, int]] = field(default_factory=list)
    """(position, stream, seq) of each event."""
    cursor: int = 0


@dataclass
class Outside:
    """What effects and followers did outside of the log: it outlives every crash."""

    books: Book = field(default_factory=lambda: Book(("parcel", "group")))
    ledger: Book = field(default_factory=lambda: Book(("parcel", "user")))
    """Of the follower that only the newer code has, whose cursor is kept in the log."""
    life: int = 0
    began: dict[str, set[int]] = field(default_factory=dict)
    """By job: in which lives of the service it ran."""
    running: int = 0
    opened: dict[int, int] = field(default_factory=dict)
    """By parcel: in which life of the service it was opened, and its timer set."""
    rang_later: int = 0
    """How many timers fired in a later life than the one in which they were set."""


def parcels(outside: Outside, *, newer: bool = False, keyframe_every: int | None = None) -> Entity[Parcel]:
    """The kind `parcel`. `newer`: as a later version of the application has it."""
    state, version = (Heavy, 2) if newer else (Parcel, 1)
    parcel: Entity[Any] = Entity("parcel", state, version=version, keyframe_every=keyframe_every)

    @parcel.evolve
    def opened(state: Parcel, event: Opened) -> Parcel:
        return replace(state, owner=event.owner, nonces=(*state.nonces, event.nonce))

    if newer:

        @parcel.evolve
        def weighed(state: Heavy, event: Weighed) -> Heavy:
            weight = state.weight + event.weight
            return replace(state, nonces=(*state.nonces, event.nonce), weight=weight)

        @parcel.upcast("parcel_added", from_version=1)
        def with_weight(fields: dict[str, Any]) -> dict[str, Any]:
            return {**fields, "weight": weight_of(fields["nonce"])}

        @parcel.evolve
        def sealed(state: Heavy, event: Sealed) -> Heavy:
            return replace(state, nonces=(*state.nonces, event.nonce), seals=state.seals + 1)

        @parcel.decide
        def seal(state: Heavy, command: Seal, ctx: Context) -> Outcome:
            # Named, since a second timer of one name replaces the first.
            later = After(2 + crc32(command.nonce.encode()) % 6, Unwrap(), name=f"unwrap {command.nonce}")
            return Decision([Sealed(command.nonce)], effects=[Wrap(command.nonce), later])

        @parcel.effect(retries=3, backoff_s=1.0)
        async def wrap(job: Wrap, run: EffectRun) -> None:
            await asyncio.sleep(0.5)
            await run.finish(Wrapped(job.job))

        @parcel.decide
        def unwrap(state: Heavy, command: Unwrap, ctx: Context) -> Outcome:
            return [Unwrapped()]

        @parcel.evolve
        def wrapped(state: Heavy, event: Wrapped) -> Heavy:
            return replace(state, wraps=(state.wraps[0] + 1, state.wraps[1]))

        @parcel.evolve
        def unwrapped(state: Heavy, event: Unwrapped) -> Heavy:
            return replace(state, wraps=(state.wraps[0], state.wraps[1] + 1))

    else:

        @parcel.evolve
        def added(state: Parcel, event: Added) -> Parcel:
            return replace(state, nonces=(*state.nonces, event.nonce))

    def more(nonce: str) -> Event:
        return Weighed(nonce, scaled(nonce)) if newer else Added(nonce)

    @parcel.evolve
    def carried(state: Parcel, event: Carried) -> Parcel:
        return replace(state, carried=(*state.carried, f"{event.job}:{event.step}"))

    @parcel.evolve
    def rang(state: Parcel, event: Rang) -> Parcel:
        return replace(state, rings=event.count)

    @parcel.evolve
    def failed(state: Parcel, event: Failed) -> Parcel:
        return state

    @parcel.decide
    def open_(state: Parcel, command: Open, ctx: Context) -> Outcome:
        owner = int(ctx.user_id or 0)
        outside.opened[int(ctx.id)] = outside.life
        draw = crc32(command.nonce.encode())
        noted = to(f"user/{owner}", Noted(int(ctx.id), command.text))
        job = Carry(command.nonce, 1 + draw % 3, draw // 3 % 2)
        bells = [Every(20 + draw % 40, Bell())] if draw % 4 == 0 else []
        work: list[Effect | After | Every | CancelEffects] = [job, After(5 + draw % 60, Ring()), *bells]
        return Decision([Opened(command.nonce, owner), noted], effects=work)

    @parcel.decide
    def add(state: Parcel, command: Add, ctx: Context) -> Outcome:
        if len(state.nonces) > 200:
            return Refused("conflict", "full")
        draw = crc32(command.nonce.encode())
        jobs = [Carry(command.nonce, 1 + draw % 3, draw // 3 % 3)] if draw % 2 else []
        return Decision([more(command.nonce)], effects=jobs)

    @parcel.decide
    def stop(state: Parcel, command: Stop, ctx: Context) -> Outcome:
        return Decision([more(command.nonce)], effects=[CancelEffects()])

    @parcel.decide
    def ring(state: Parcel, command: Ring, ctx: Context) -> Outcome:
        outside.rang_later += outside.opened.get(int(ctx.id), outside.life) < outside.life
        return [Rang(state.rings + 1)]

    @parcel.decide
    def bell(state: Parcel, command: Bell, ctx: Context) -> Outcome:
        return [Rang(state.rings + 1)] if state.rings < RINGS else []

    @parcel.decide
    def gave_up(state: Parcel, command: EffectFailed, ctx: Context) -> Outcome:
        return [Failed(command.attempts)]

    @parcel.effect(retries=3, backoff_s=1.0)
    async def carry(job: Carry, run: EffectRun) -> None:
        outside.began.setdefault(job.job, set()).add(outside.life)
        outside.running += 1
        try:
            done = sum(each.startswith(f"{job.job}:") for each in run.state.carried)
            for step in range(done, job.steps):
                await asyncio.sleep(0.5 + step)
                await run.emit(Carried(job.job, step))
            if run.attempt <= job.failures:
                raise ConnectionError
        finally:
            outside.running -= 1

    @parcel.readers
    def may_read(state: Parcel, who: Principal) -> bool:
        return who.user_id == state.owner

    return parcel


def flyers() -> Entity[Flyer]:
    """The kind `flyer`, which the newer code has no more."""
    flyer = Entity("flyer", Flyer)

    @flyer.evolve
    def printed(state: Flyer, event: Printed) -> Flyer:
        return replace(state, owner=event.owner)

    @flyer.evolve
    def stamped(state: Flyer, event: Stamped) -> Flyer:
        return replace(state, stamps=state.stamps + 1)

    @flyer.decide
    def print_(state: Flyer, command: Print, ctx: Context) -> Outcome:
        return [Printed(command.nonce, int(ctx.user_id or 0))]

    @flyer.decide
    def stamp(state: Flyer, command: Stamp, ctx: Context) -> Outcome:
        return [Stamped(command.nonce)]

    @flyer.readers
    def may_read(state: Flyer, who: Principal) -> bool:
        return who.user_id == state.owner

    return flyer


def weight_of(nonce: str) -> int:
    """What the newer code says of an event that the older code wrote."""
    return len(nonce)


def scaled(nonce: str) -> int:
    """The weight that the newer code writes: never what an upcast says."""
    return 1000 + crc32(nonce.encode()) % 1000


def shop(
    outside: Outside, *, newer: bool = False, keyframe_every: int | None = None, follows: bool = False
) -> Application:
    """The application of one life of the service.

    `keyframe_every`: as of `Entity`, of parcels. `follows`: whether the newer code has a follower more.
    """
    parcel = parcels(outside, newer=newer, keyframe_every=keyframe_every)
    kinds: list[Entity[Any]] = [parcel, *([] if newer else [flyers()])]
    application = Application(entities=kinds, plugins=[mail()])

    async def cursor() -> int:
        return outside.books.cursor

    @application.follower("books", kinds=outside.books.kinds, cursor=cursor, batch=10)
    async def books(events: Sequence[Followed], run: FollowerRun) -> None:
        await asyncio.sleep(0)
        if events[0].position <= outside.books.cursor:
            raise FileExistsError("another node was here first")  # as a unique key of a database says
        outside.books.followed += [(one.position, one.stream, one.seq) for one in events]
        outside.books.cursor = run.position

    if newer and follows:

        @application.follower("ledger", kinds=outside.ledger.kinds, batch=10)
        async def ledger(events: Sequence[Followed], run: FollowerRun) -> None:
            await asyncio.sleep(0)
            outside.ledger.followed += [(one.position, one.stream, one.seq) for one in events]

    return application


def folded(types: Sequence[tuple[str, dict[str, Any]]], *, newer: bool = False) -> Parcel:
    """The state that these events give, by rules written for the checker."""
    state = Heavy() if newer else Parcel()
    for name, body in types:
        if name == "parcel_opened":
            state = replace(state, owner=body["owner"])
        if name in {"parcel_opened", "parcel_added"}:
            state = replace(state, nonces=(*state.nonces, body["nonce"]))
        if name == "parcel_added" and isinstance(state, Heavy):
            state = replace(state, weight=state.weight + body.get("weight", weight_of(body["nonce"])))
        if name == "parcel_sealed" and isinstance(state, Heavy):
            state = replace(state, nonces=(*state.nonces, body["nonce"]), seals=state.seals + 1)
        if isinstance(state, Heavy) and name in {"parcel_wrapped", "parcel_unwrapped"}:
            wraps, unwraps = state.wraps
            more = name == "parcel_wrapped"
            state = replace(state, wraps=(wraps + more, unwraps + (not more)))
        if name == "parcel_carried":
            state = replace(state, carried=(*state.carried, f"{body['job']}:{body['step']}"))
        if name == "parcel_rang":
            state = replace(state, rings=body["count"])
    return state
