"""What does a durable effect cost, and how soon does a service go on with 100,000 of them?

The guess before the first run: 1,500 effects a second from request to end (a claim, an event and an end are
three commits, shared by those that run at the same time); a start with 100,000 open in 2 s and 40 MB.
Filling, working and recovering are processes of their own, so that memory can be told apart.
"""

import asyncio
import gc
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench.harness.answers import answer
from bench.harness.harness import OURS, Metric, Options, Sheet, interleaved
from bench.harness.procs import Child, resident_bytes
from huahuo import Command, Context, Decision, Effect, EffectRun, Entity, Event, Huahuo, Outcome

EFFECTS_A_COMMAND = 100
IN_FLIGHT = 64


class Asked(Event, type="batch_asked"):
    """A decision asked for effects."""


class Worked(Event, type="batch_worked"):
    """An effect said something."""

    n: int


class Batch(Struct, frozen=True):
    """Counts what its effects say."""

    done: int = 0


class Ask(Command, action="ask_batch", creates=True):
    """Ask for `effects` effects of one entity."""

    effects: int


class Work(Effect):
    """Says one thing."""

    n: int
    text: str = "x" * 60


class Gate:
    """Lets effects end, or not. `began_s`: when the first one began."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.began_s = 0.0


def batches(gate: Gate) -> Entity[Batch]:
    """The kind `batch`: one event an effect."""
    batch = Entity("batch", Batch)

    @batch.evolve
    def asked(state: Batch, event: Asked) -> Batch:
        del event
        return state

    @batch.evolve
    def worked(state: Batch, event: Worked) -> Batch:
        del event
        return Batch(state.done + 1)

    @batch.decide
    def ask(state: Batch, command: Ask, ctx: Context) -> Outcome:
        del state, ctx
        return Decision([Asked()], effects=[Work(n) for n in range(command.effects)])

    @batch.effect
    async def work(job: Work, run: EffectRun) -> None:
        gate.began_s = gate.began_s or time.perf_counter()
        await gate.open.wait()
        await run.emit(Worked(job.n))

    return batch


def service(folder: Path, gate: Gate) -> Huahuo:
    """A service that stops at once."""
    return Huahuo(
        entities=[batches(gate)], data=folder, port=0, drain_timeout_s=1, decision_events_max=10_000
    )


async def ask(app: Huahuo, effects: int, each: int = EFFECTS_A_COMMAND) -> None:
    """Let decisions ask for effects, `each` of them for one entity of its own."""
    left = iter(range(0, effects, each))

    async def worker() -> None:
        for _ in left:
            await app.send("ask_batch", effects=min(effects, each))

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


async def idle(app: Huahuo) -> None:
    """Wait until no effect is open."""
    effects: Any = app.running.api("entities").effects
    while effects.opened:  # noqa: ASYNC110  no event of the engine says so
        await asyncio.sleep(0.01)


async def work(folder: Path, effects: int) -> dict[str, object]:
    """Effects a second, from the first request to the last end."""
    gate = Gate()
    gate.open.set()
    async with service(folder, gate) as app:
        figures: dict[str, object] = {}
        for name, each in (("effects_per_s", 1), ("crowded_per_s", EFFECTS_A_COMMAND)):
            start_s = time.perf_counter()
            await ask(app, effects, each)
            await idle(app)
            figures[name] = round(effects / (time.perf_counter() - start_s))
        return figures


async def fill(folder: Path, effects: int) -> dict[str, object]:
    """Leave this number of effects open."""
    async with service(folder, Gate()) as app:
        start_s = time.perf_counter()
        await ask(app, effects)
        return {"requests_per_s": round(effects / (time.perf_counter() - start_s))}


async def recover(folder: Path, effects: int) -> dict[str, object]:
    """Start with all of them open."""
    gate = Gate()
    app = service(folder, gate)
    gc.collect()
    before, start_s = resident_bytes(os.getpid()), time.perf_counter()
    await app.start()
    started_s = time.perf_counter() - start_s
    while not gate.began_s:  # noqa: ASYNC110  finer than an event
        await asyncio.sleep(0.001)
    figures: dict[str, object] = {
        "start_s": round(started_s, 2),
        "resumed_s": round(gate.began_s - start_s, 2),
        "start_mb": round((resident_bytes(os.getpid()) - before) / 1e6),
        "process_mb": round(resident_bytes(os.getpid()) / 1e6),
    }
    assert app.running.api("entities").effects.opened == effects
    start_s = time.perf_counter()
    gate.open.set()
    await idle(app)
    figures["recovered_per_s"] = round(effects / (time.perf_counter() - start_s))
    await app.stop()
    return figures


PHASES = {"work": work, "fill": fill, "recover": recover}
METRICS = (
    Metric("effects_per_s", "each of an entity of its own"),
    Metric("crowded_per_s", f"{EFFECTS_A_COMMAND} of an entity"),
    Metric("requests_per_s"),
    Metric("start_s", "with all of them open", higher_is_better=False),
    Metric("resumed_s", "from the start to the first run", higher_is_better=False),
    Metric("start_mb", "what the start adds", higher_is_better=False),
    Metric("process_mb", "", higher_is_better=False),
    Metric("recovered_per_s"),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    opened, worked = (2_000, 500) if options.quick else (100_000, 10_000)
    sheet = Sheet(f"{worked:,} effects, then {opened:,} open ones", METRICS)

    def measure_once(case: str) -> None:
        del case
        figures: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for phase, place, count in (
                ("work", "worked", worked), ("fill", "open", opened), ("recover", "open", opened),
            ):  # fmt: skip
                command = [
                    *(sys.executable, "-m", "bench.questions.effects"),
                    *(phase, f"{folder}/{place}", str(count)),
                ]
                with Child(command, start_timeout_s=600) as child:
                    figures |= child.hello
        sheet.add(OURS, **figures)

    interleaved([OURS], options.rounds, measure_once, [sheet])
    return [sheet]


def main() -> None:
    """The child: the figures of one phase as a line of JSON."""
    phase, folder, count = sys.argv[1:]
    answer(asyncio.run(PHASES[phase](Path(folder), int(count))))


if __name__ == "__main__":
    main()
