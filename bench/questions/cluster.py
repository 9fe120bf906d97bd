"""What does an ordered log of others cost: an append over PostgreSQL and JetStream beside the log alone?

The guess before the first run: a lone append takes three times as long as alone over one server (a round
trip, its sync, and the local commit), five times over three; in commits of 100 it is half as fast.

All nodes run in this one process, so the processor time of an event is that of all of them together. The
servers are real and sync always; on one machine they share its disk and cores. Compare within one run.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bench.harness.harness import Metric, Options, Sheet
from huahuo.app import loops
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.opening import sequencer_at
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.replica import open_log
from tests.support.servers.nats import nats_servers
from tests.support.servers.postgres import postgres

ALONE = "alone"
NODES = {"nats R1": 2, "nats R3": 3, "postgres": 2}
BODY = b'{"type":"parcel_progress","timestamp":"2026-01-01T00:00:00.000Z","email_id":1,"progress":75}'
KEY = bytes(32)
AT_ONCE = 32
"""Appends under way at each node."""
METRICS = (
    Metric("p50", "ms, lone append", higher_is_better=False, compare=True),
    Metric("p99", "ms", higher_is_better=False, compare=True),
    Metric("by_1", "events/s, appends of 1", compare=True),
    Metric("by_10", "events/s, of 10", compare=True),
    Metric("by_100", "events/s, of 100", compare=True),
    Metric("cpu", "µs an event of 100, all nodes", higher_is_better=False, compare=True),
)


def append(count: int, number: int) -> Append:
    """An append of `count` events, spread over streams."""
    events = tuple(NewEvent(f"user/{(number + n) % 100 + 1}", "parcel_progress", BODY) for n in range(count))
    return Append(ts_ms=0, events=events, principal="service")


@contextlib.asynccontextmanager
async def logs(case: str, folder: Path) -> AsyncIterator[Sequence[StoreLog]]:
    """The nodes' logs."""
    ambient = SystemAmbient()
    with contextlib.ExitStack() as stack:
        opened: list[StoreLog] = []
        if case == ALONE:
            opened.append(
                await SqliteLog.open(folder / "alone", ambient=ambient, master_key=KEY, build="bench")
            )
        else:
            if case == "postgres":
                url = stack.enter_context(postgres()).url
            else:
                url = stack.enter_context(nats_servers(3 if case == "nats R3" else 1)).url
            for node in range(NODES[case]):
                name = f"{case.replace(' ', '-')}-{node}"
                log = await open_log(
                    folder / name, ambient=ambient, master_key=KEY, build="bench", node=name,
                    sequencer=sequencer_at(LogAddress(url), ambient),
                )  # fmt: skip
                opened.append(log)
                assert isinstance(log.writer, ReplicaWriter)
                await log.writer.joined()
        try:
            yield opened
        finally:
            for each in opened:
                await each.close()


async def lone(log: StoreLog, count: int) -> list[float]:
    """The times of appends that nothing else is under way with, in ms, sorted."""
    took = []
    for number in range(count):
        began_s = time.perf_counter()
        await log.append(append(1, number))
        took.append((time.perf_counter() - began_s) * 1e3)
    return sorted(took)


async def flood(opened: Sequence[StoreLog], size: int, seconds: float) -> tuple[float, float]:
    """Events a second over all nodes, and processor time an event in µs."""
    calls = 0
    began_s, began_cpu_s = time.perf_counter(), time.process_time()

    async def caller(log: StoreLog) -> None:
        nonlocal calls
        while time.perf_counter() - began_s < seconds:
            calls += 1
            await log.append(append(size, calls))

    await asyncio.gather(*(caller(log) for log in opened for _ in range(AT_ONCE)))
    events = calls * size
    spent_s = time.process_time() - began_cpu_s
    return events / (time.perf_counter() - began_s), spent_s * 1e6 / events


async def measure(options: Options, sheet: Sheet) -> None:
    """All cases, in turns."""
    count, seconds = (50, 0.3) if options.quick else (500, 3.0)
    for turn in range(1 if options.quick else options.rounds):
        for case in (ALONE, *NODES):
            async with logs(case, options.folder / f"{turn}") as opened:
                took = await lone(opened[0], count)
                rates = {size: await flood(opened, size, seconds) for size in (1, 10, 100)}
            sheet.add(
                case, p50=took[len(took) // 2], p99=took[len(took) * 99 // 100],
                by_1=rates[1][0], by_10=rates[10][0], by_100=rates[100][0], cpu=rates[100][1],
            )  # fmt: skip


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sheet = Sheet("an append over an ordered log of others", METRICS, ALONE)
    loops.run(measure(options, sheet))
    return [sheet]
