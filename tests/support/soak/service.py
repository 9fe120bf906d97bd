"""The service of a soak, in a process of its own. Each second it says on a line of JSON what it holds."""

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from bench.processes import answer, raise_files_max, resident_bytes
from huahuo import (
    After,
    Command,
    Context,
    Decision,
    Effect,
    EffectRun,
    Entity,
    Event,
    Followed,
    FollowerRun,
    Huahuo,
    Outcome,
)
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.mailcheck import mail

SECRET = "soak-secret-that-is-long-enough-0000"
SAY_S = 1.0
PAGES_BYTES = 64 << 20
"""`cache_size` of the log's connection."""


class Crate(msgspec.Struct, frozen=True):
    """How often it was touched, carried and rung."""

    touched: int = 0
    carried: int = 0
    rung: int = 0


class Touched(Event, type="crate_touched"): ...


class Carried(Event, type="crate_carried"): ...


class Rung(Event, type="crate_rung"): ...


class Carry(Effect): ...


class OpenCrate(Command, action="open_crate", creates=True): ...


class TouchCrate(Command, action="touch_crate"): ...


class Ring(Command): ...


def crates() -> Entity[Crate]:
    """A kind whose commands ask for an effect and a timer."""
    crate = Entity("crate", Crate)

    @crate.evolve
    def touched(state: Crate, event: Touched) -> Crate:
        return msgspec.structs.replace(state, touched=state.touched + 1)

    @crate.evolve
    def carried(state: Crate, event: Carried) -> Crate:
        return msgspec.structs.replace(state, carried=state.carried + 1)

    @crate.evolve
    def rung(state: Crate, event: Rung) -> Crate:
        return msgspec.structs.replace(state, rung=state.rung + 1)

    @crate.decide
    def open_crate(state: Crate, command: OpenCrate, ctx: Context) -> Outcome:
        return Decision([Touched()], effects=[Carry(), After(2, Ring())])

    @crate.decide
    def touch(state: Crate, command: TouchCrate, ctx: Context) -> Outcome:
        return Decision([Touched()], effects=[Carry(), After(2, Ring(), name=f"ring-{state.touched % 8}")])

    @crate.decide
    def ring(state: Crate, command: Ring, ctx: Context) -> Outcome:
        return [Rung()]

    @crate.effect(retries=3, backoff_s=0.2)
    async def carry(job: Carry, run: EffectRun) -> None:
        await asyncio.sleep(0.1)
        if run.attempt == 1 and run.state.touched % 3 == 0:
            raise ConnectionError("the first attempt of each third")
        await run.finish(Carried())

    return crate


def held(data: Path) -> dict[str, int]:
    """What this process holds: tasks and timers of its loop, descriptors, and memory (KiB).

    Of the log SQLite keeps pages in memory up to a bound: so much of the memory may grow with it.
    """
    resident, log = resident_bytes(os.getpid()), (data / DATABASE).stat().st_size
    scheduled = getattr(asyncio.get_running_loop(), "_scheduled", ())
    return {
        "tasks": len(asyncio.all_tasks()),
        "timers": sum(not timer.cancelled() for timer in scheduled),
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "memory": resident >> 10,
        "but for pages": resident - min(log, PAGES_BYTES) >> 10,
    }


async def serve(data: Path) -> None:
    """Serve until this process is ended."""
    app = Huahuo(
        entities=[crates()], plugins=[mail()], data=data, port=0, jwt_secret=SECRET, mail_allow_private=True,
        connections_per_ip=0, unauthenticated_per_ip=0, connections_per_user=0, log_level="error",
    )  # fmt: skip

    @app.follower("books", kinds=["crate", "group"])
    async def books(events: list[Followed], run: FollowerRun) -> None:
        await asyncio.sleep(0)

    async with app:
        answer({"url": app.url})
        while True:
            await asyncio.sleep(SAY_S)
            answer(held(data))


if __name__ == "__main__":
    raise_files_max()
    asyncio.run(serve(Path(sys.argv[1])))
