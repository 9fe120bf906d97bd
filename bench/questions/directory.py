"""What does an entity of the engine alone cost? Memory of 100,000 residents, waking and ending them.

No door, no codec, no rights: `entities` measures what an application writes.

The guess before the first run: 1.5 KiB an entity besides its state; 20,000 wake-ups a second with an
empty stream and 4,000 with one to read; 8,000 durable commands a second with 256 in flight.
Both halves of the work (askers and entities) share one core.
"""

import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import msgspec

from bench.harness.answers import answer
from bench.harness.harness import OURS, Metric, Options, Sheet, interleaved
from bench.harness.procs import Child
from huahuo.actors.entities.decider import Context, Decision, Origin
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import CatchUp, Execute
from huahuo.actors.entities.residents import DirectoryLimits
from huahuo.actors.runtime.runtime import Runtime
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.model import Append, NewEvent, StoredEvent
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.replay.history.keyframes import state_at
from huahuo.replay.live.feed import Feed

IN_FLIGHT = 256
EVENTS_A_STREAM = 5
BODY = b'{"type":"counted","timestamp":"2026-11-24T10:31:07.114Z","message":"' + b"x" * 60 + b'"}'
SERVICE = Origin(principal="service")


class Counter(msgspec.Struct):
    """The smallest state there is."""

    events: int = 0


class CounterDecider:
    """Counts its events; every command is one more."""

    name = "counter"
    fingerprint = "1"
    guarded = True

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def initial(self, stream: str) -> Counter:  # noqa: ARG002  the port's signature
        """See `Fold`."""
        return Counter()

    def evolve(self, state: Counter, event: StoredEvent) -> Counter:  # noqa: ARG002
        """See `Fold`."""
        state.events += 1
        return state

    def dump(self, state: Counter) -> bytes:
        """See `Fold`."""
        return msgspec.json.encode(state)

    def load(self, stream: str, data: bytes) -> Counter:  # noqa: ARG002
        """See `Fold`."""
        return msgspec.json.decode(data, type=Counter)

    def decide(self, state: Counter, command: str, context: Context) -> Decision[int, None]:  # noqa: ARG002
        """See `Decider`: `command` names the stream to write to."""
        event = NewEvent(stream=command, type="counted", body=BODY)
        return Decision(reply=state.events + 1, at_stream=command, events=(event,))


class World:
    """A directory over a SQLite log in a directory of its own."""

    def __init__(self, log: SqliteLog, residents_max: int) -> None:
        self.log = log
        self.feed = Feed(log)
        self.runtime = Runtime(asyncio.get_running_loop())
        self.directory = Directory(
            self.runtime,
            log,
            self.feed,
            SystemAmbient(),
            limits=DirectoryLimits(residents_max=residents_max, sweep_s=3600),
        )
        self.directory.register("counter", CounterDecider("counter"), lambda *_: None)

    async def command(self, key: int) -> None:
        """One durable command."""
        await self.directory.ask("counter", key, Execute(f"counter/{key}", SERVICE))

    async def wake(self, key: int) -> None:
        """Have an entity loaded."""
        await self.directory.ask("counter", key, CatchUp())


async def in_flight(jobs: Iterator[Awaitable[None]]) -> float:
    """Do all jobs, `IN_FLIGHT` at a time, and return the seconds it took."""

    async def worker() -> None:
        for job in jobs:
            await job

    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - start


def resident_bytes() -> int:
    """The memory of this process (Linux)."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def measure(directory: Path, *, residents: int, commands: int) -> dict[str, object]:
    """All figures, from an empty directory on."""
    log = await SqliteLog.open(directory, ambient=SystemAmbient(), master_key=bytes(32), build="bench")
    world = World(log, residents_max=residents)
    figures: dict[str, object] = {}

    before = resident_bytes()
    states = [Counter() for _ in range(residents)]
    state_bytes = (resident_bytes() - before) / residents
    del states
    before = resident_bytes()
    took_s = await in_flight(world.wake(key) for key in range(residents))
    figures["wake_empty_per_s"] = round(residents / took_s)
    figures["entity_bytes"] = round((resident_bytes() - before) / residents - state_bytes)
    figures["state_bytes"] = round(state_bytes)
    start = time.perf_counter()
    await world.directory.close(timeout_s=600)
    figures["end_per_s"] = round(residents / (time.perf_counter() - start))

    world = World(log, residents_max=residents)
    spread = min(residents, 1000)
    took_s = await in_flight(world.command(key % spread) for key in range(commands))
    figures["durable_commands_per_s"] = round(commands / took_s)
    took_s = await in_flight(world.wake(key % spread) for key in range(commands))
    figures["queries_per_s"] = round(commands / took_s)
    await world.directory.close(timeout_s=600)

    for first in range(0, residents, 200):
        names = [f"stored/{key}" for key in range(first, min(first + 200, residents))]
        events = tuple(NewEvent(stream=s, type="counted", body=BODY) for s in names * EVENTS_A_STREAM)
        await log.append(Append(ts_ms=1, events=events))
    world = World(log, residents_max=residents)
    world.directory.register("stored", CounterDecider("stored"), lambda *_: None)
    waking = min(residents, 20_000)
    took_s = await in_flight(world.directory.ask("stored", key, CatchUp()) for key in range(waking))
    figures["wake_stored_per_s"] = round(waking / took_s)

    position = log.position
    start = time.perf_counter()
    await state_at(log, "log", CounterDecider("log"))
    figures["fold_events_per_s"] = round(position / (time.perf_counter() - start))
    await world.directory.close(timeout_s=600)
    await world.runtime.stop()
    await log.close()
    return figures


METRICS = (
    Metric("entity_bytes", "each, besides its state", higher_is_better=False),
    Metric("state_bytes", "each", higher_is_better=False),
    Metric("wake_empty_per_s"),
    Metric("wake_stored_per_s"),
    Metric("end_per_s"),
    Metric("durable_commands_per_s"),
    Metric("queries_per_s"),
    Metric("fold_events_per_s"),
)


def run(options: Options) -> list[Sheet]:
    """See the module. Each round is a process of its own, so that memory can be told apart."""
    residents, commands = (1_000, 500) if options.quick else (100_000, 50_000)
    sheet = Sheet(f"{residents:,} entities, {commands:,} commands, {IN_FLIGHT} in flight", METRICS)

    def measure_once(case: str) -> None:
        del case
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            command = [
                sys.executable,
                "-m",
                "bench.questions.directory",
                folder,
                str(residents),
                str(commands),
            ]
            with Child(command, start_timeout_s=600) as child:
                sheet.add(OURS, **child.hello)

    interleaved([OURS], options.rounds, measure_once, [sheet])
    return [sheet]


def main() -> None:
    """The child: all figures as a line of JSON."""
    folder, residents, commands = sys.argv[1:]
    figures = asyncio.run(measure(Path(folder) / "log", residents=int(residents), commands=int(commands)))
    answer(figures)


if __name__ == "__main__":
    main()
