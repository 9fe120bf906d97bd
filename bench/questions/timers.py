"""What do a million pending timers cost? Memory, the start, and firings a second when many are due.

The guess before the first run: 2 s to start and 60 MB for 10,000 entities with 100 timers each, besides what
a service without timers takes; 20,000 firings a second of loaded entities, half as many of unloaded ones.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator
from itertools import batched
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bench.processes import Child, answer, resident_bytes
from bench.sheets import OURS, Metric, Options, Sheet, interleaved
from huahuo import Command, Context, Entity, Event, Outcome
from huahuo.actors.domain.plugin import Entities
from huahuo.actors.timers.timer import STREAMS, Timer
from huahuo.app import process
from huahuo.app.config import Settings
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.model import Append, NewEvent

AHEAD_MS = 7 * 86_400_000
"""All timers are due this long after they were set, the last one some minutes later."""
_APPEND = 1_000
_WAIT_S = 600.0


class Read(Event, type="meter_read"):
    """A reading."""

    number: int


class Meter(Struct, frozen=True):
    """The state: how often it was read."""

    readings: int = 0


class Measure(Command):
    """What the timers send."""


meter = Entity("meter", Meter)


@meter.evolve
def read(state: Meter, event: Read) -> Meter:
    """One more."""
    return Meter(max(state.readings, event.number))


@meter.decide
def measured(state: Meter, command: Measure, ctx: Context) -> Outcome:  # noqa: ARG001  the form of a decide
    """Each firing is one event."""
    return [Read(state.readings + 1)]


class JumpingAmbient(SystemAmbient):
    """The machine's clock, set forward by `jump_ms`."""

    jump_ms = 0

    def now_ms(self) -> int:
        """See `Ambient`."""
        return super().now_ms() + self.jump_ms


def service(folder: Path, ambient: SystemAmbient) -> tuple[App, Entities]:
    """A whole service of meters."""
    plugin = Entities([meter])
    settings = Settings(data=folder, port=0, master_key="5a" * 32, jwt_secret="b" * 40)
    return App(settings, ambient, plugins=[plugin]), plugin


async def fill(folder: Path, *, entities: int, each: int) -> None:
    """A log in which every meter has a history and `each` timers, in the order of their due times."""
    ambient = SystemAmbient()
    app, _ = service(folder, ambient)
    await app.start()
    began_ms = ambient.now_ms()
    body = msgspec.json.encode({"type": "meter_read", "timestamp": "2026-11-24T10:31:07.114Z", "number": 1})
    for some in batched(range(1, entities + 1), _APPEND):
        events = tuple(NewEvent(f"meter/{n}", "meter_read", body, entity=f"meter/{n}") for n in some)
        await app.log.append(Append(ts_ms=began_ms, events=events))
    for timers in batched(_timers(began_ms + AHEAD_MS, entities, each), _APPEND):
        events = tuple(map(_set, timers))
        rows = tuple(row for timer in timers for row in timer.puts())
        await app.log.append(Append(ts_ms=began_ms, events=events, rows=rows))
    await app.stop()


def _timers(due_ms: int, entities: int, each: int) -> Iterator[Timer]:
    for number in range(each):
        for meter_id in range(1, entities + 1):
            due_ms += number + meter_id & 1
            yield Timer(f"meter/{meter_id}", f"n{number}", due_ms, "measure", b"{}", 0, number + 1)


def _set(timer: Timer) -> NewEvent:
    said = {
        "type": "timer_set", "timestamp": "2026-11-24T10:31:07.114Z", "name": timer.name,
        "command": timer.command, "fields": {}, "due_ms": timer.due_ms,
    }  # fmt: skip
    return NewEvent(STREAMS + timer.entity, "timer_set", msgspec.json.encode(said), entity=timer.entity)


async def measure(folder: Path, *, firings: int) -> dict[str, object]:
    """Start the service on a filled log, then make all timers due."""
    gc.collect()
    before = resident_bytes(os.getpid())
    ambient = JumpingAmbient()
    app, plugin = service(folder, ambient)
    start = time.perf_counter()
    await app.start()
    figures: dict[str, object] = {"start_s": round(time.perf_counter() - start, 2)}
    await asyncio.sleep(0.5)
    figures["service_mb"] = round((resident_bytes(os.getpid()) - before) / 1e6)
    clockwork: Any = plugin.clockwork
    ambient.jump_ms = 2 * AHEAD_MS
    start, start_cpu_s = time.perf_counter(), time.process_time()
    clockwork.wake()
    while clockwork.fired < firings:
        if time.perf_counter() - start > _WAIT_S:
            raise TimeoutError(f"{clockwork.fired} of {firings} fired")
        await asyncio.sleep(0.01)
    figures["fired_per_s"] = round(clockwork.fired / (time.perf_counter() - start))
    figures["cpu"] = round((time.process_time() - start_cpu_s) * 1e6 / clockwork.fired, 1)
    figures["peak_mb"] = round((resident_bytes(os.getpid()) - before) / 1e6)
    await app.stop()
    return figures


METRICS = (
    Metric("start_s", "of the whole service, its log included", higher_is_better=False),
    Metric("service_mb", "after the start, above an empty process", higher_is_better=False),
    Metric("fired_per_s"),
    Metric("cpu", "µs of processor time a firing, all threads", higher_is_better=False),
    Metric("peak_mb", "after the firings, with their entities in memory", higher_is_better=False),
)
CASES = {"loaded often": (10_000, 100), "one each": (1_000_000, 1)}


def run(options: Options) -> list[Sheet]:
    """See the module. The case with a million entities takes minutes to fill: only with `--large`."""
    cases = dict(CASES) if options.large else {"loaded often": (100 if options.quick else 10_000, 10)}
    return [sheet_of(name, *sizes, options) for name, sizes in cases.items()]


def sheet_of(name: str, entities: int, each: int, options: Options) -> Sheet:
    """All rounds of one case."""
    firings = min(entities * each, 200_000)
    sheet = Sheet(f"{name}: {entities:,} entities with {each} timers each", METRICS)

    def one(case: str, folder: Path) -> None:
        asyncio.run(fill(folder / "data", entities=entities, each=each))
        command = [sys.executable, "-m", "bench.questions.timers", str(folder), str(firings)]
        with Child(command, start_timeout_s=900) as child:
            sheet.add(case, **child.hello)

    interleaved([OURS], options, one, [sheet])
    return sheet


def main() -> None:
    """The child: all figures as a line of JSON. The process is tuned as `huahuo serve` is."""
    folder, firings = sys.argv[1:]

    async def work() -> None:
        answer(await measure(Path(folder) / "data", firings=int(firings)))

    process.own_the_process()
    process.run(work())


if __name__ == "__main__":
    main()
