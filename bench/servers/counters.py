"""A service of counters: `Counter` as an application writes it, and the child that `bench entities` asks.

python -m bench.servers.counters DIRECTORY
"""

import asyncio
import contextlib
import gc
import random
import statistics
import sys
import time
import tracemalloc
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec import json as codec

from bench.harness.answers import answer
from huahuo import Command, Context, Entity, Event, Huahuo, Outcome, Principal
from huahuo.app import loops

EVENTS_EACH = 5
"""The history of an entity that is woken."""
WARM_UP = 0.25
"""Before the time that counts, this share of it: whatever is done for the first time only."""
_AT_ONCE = 64


class Counted(Event, type="counted"):
    """One more."""

    number: int


class Counter(Struct, frozen=True):
    """How often it was counted."""

    number: int = 0


class CountUp(Command, action="count_up", creates=True, open=True):
    """Count; the message carries `counter_id`."""


counter = Entity("counter", Counter, key=str)


@counter.evolve
def counted(state: Counter, event: Counted) -> Counter:  # noqa: ARG001  the form of an evolve
    """See `Entity`."""
    return Counter(event.number)


@counter.decide
def count_up(state: Counter, command: CountUp, ctx: Context) -> Outcome:  # noqa: ARG001  the form of a decide
    """Each command is one event."""
    return [Counted(state.number + 1)]


@counter.readers
def may_read(state: Counter, who: Principal) -> bool:  # noqa: ARG001  the form of a reader
    """All."""
    return True


def service(folder: Path, **settings: Any) -> Huahuo:
    """The application, without bounds on the messages and connections of a user."""
    unbounded: dict[str, Any] = {
        "messages_per_s": 0,
        "connections_per_user": 0,
        "connections_per_ip": 0,
        "drain_timeout_s": 1,
        "log_level": "error",
    }
    return Huahuo(entities=[counter], data=folder, port=0, **unbounded, **settings)


def percentiles(times_s: Sequence[float]) -> dict[str, float]:
    """In milliseconds."""
    cuts = statistics.quantiles(times_s, n=100) if len(times_s) > 1 else list(times_s) * 99
    return {"p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3}


async def call(work: Callable[[int], Awaitable[object]], callers: int, seconds: float) -> dict[str, float]:
    """`callers` times one command after the other."""
    times_s: list[float] = []
    start_s = time.perf_counter()

    async def caller(number: int) -> None:
        began_s = time.perf_counter()
        while began_s - start_s < seconds:
            await work(number)
            number += callers
            began_s, since_s = time.perf_counter(), began_s
            times_s.append(began_s - since_s)

    await asyncio.gather(*(caller(number) for number in range(callers)))
    return {"commands": len(times_s) / (time.perf_counter() - start_s), **percentiles(times_s)}


async def serve(folder: Path) -> None:
    """Say where it listens; then answer each line of JSON with the figures of commands by `app.send`."""
    async with service(folder) as app:
        answer({"port": app.running.port, "token": app.token(1, "bench")})
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            asked = codec.decode(line, type=dict[str, Any])

            async def send(number: int, entities: int = asked["entities"]) -> None:
                await app.send("count_up", counter_id=f"c{number % entities}", as_user=1)

            await call(send, asked["callers"], asked["seconds"] * WARM_UP)
            cpu_s = time.process_time()
            found = await call(send, asked["callers"], asked["seconds"])
            spent_s = time.process_time() - cpu_s
            answer({**found, "cpu": spent_s / (found["commands"] * asked["seconds"]) * 1e6})


async def fill(folder: Path, entities: int) -> dict[str, float]:
    """Give `entities` counters a history."""
    async with service(folder) as app:
        left = iter(range(entities * EVENTS_EACH))

        async def worker() -> None:
            for number in left:
                await app.send("count_up", counter_id=f"c{number % entities}")

        await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    return {}


async def resident(folder: Path, entities: int) -> dict[str, float]:
    """Wake all of them: what each adds to what Python has allocated."""
    tracemalloc.start()
    async with service(folder) as app:
        before = allocated()
        await look_at_all(app, entities)
        return {"resident": (allocated() - before) / entities}


async def passivated(folder: Path, entities: int) -> dict[str, float]:
    """The same after they have left memory again."""
    tracemalloc.start()
    async with service(folder, entity_idle_s=1.0) as app:
        before = allocated()
        await look_at_all(app, entities)
        while await asyncio.to_thread(residents, app.url):  # noqa: ASYNC110  a sweep a second ends them
            await asyncio.sleep(0.1)
        return {"passivated": (allocated() - before) / entities}


async def look_at_all(app: Huahuo, entities: int) -> None:
    """Have each of them loaded, many at a time."""
    left = iter(range(entities))

    async def worker() -> None:
        for number in left:
            await app.state(counter, f"c{number}")

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))


async def wake(folder: Path, entities: int) -> dict[str, float]:
    """One after the other, each for the first time: its state from the log."""
    async with service(folder) as app:
        numbers = list(range(entities))
        random.Random(1).shuffle(numbers)
        times_s = []
        for number in numbers:
            began_s = time.perf_counter()
            await app.state(counter, f"c{number}")
            times_s.append(time.perf_counter() - began_s)
    return {f"wake_{name}": value for name, value in percentiles(times_s).items()}


PHASES = {"fill": fill, "resident": resident, "passivated": passivated, "wake": wake}


def residents(url: str) -> int:
    """How many entities are in memory, as the service's metrics tell."""
    with urllib.request.urlopen(f"{url}/metrics") as told:
        text = told.read().decode()
    return int(float(text.partition("\nhuahuo_entities_resident ")[2].partition("\n")[0]))


def allocated() -> int:
    """Bytes, without garbage."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def main() -> None:
    """`DIRECTORY`: serve. `DIRECTORY PHASE ENTITIES`: answer with the figures of the phase."""
    folder, *rest = sys.argv[1:]
    if not rest:
        with contextlib.suppress(KeyboardInterrupt):
            loops.run(serve(Path(folder)))
        return
    phase, entities = rest
    work = PHASES[phase]

    async def tell() -> None:
        answer(await work(Path(folder), int(entities)))

    loops.run(tell())


if __name__ == "__main__":
    main()
