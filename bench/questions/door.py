"""What does the front door cost: `publish_many` and `publish` against the log's own entrance?

The guess before the first run: a commit of 1,000 events by `publish_many` at 70 % of `log.submit`, because
each event is checked and encoded in Python; `publish` alone, 256 at once, at 60 %, for its coroutines.

One running service; the ways in take turns in one round. `log.submit` gets finished bytes, which no
application can hand over: it is the bound. The fields are those of a real progress event. Compare processor
time: on a shared machine the disk and the neighbours decide the rate of a round.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.harness.harness import Metric, Options, Sheet
from huahuo import Huahuo
from huahuo.app import loops
from huahuo.eventstore.ambient import json_bytes, rfc3339
from huahuo.eventstore.model import Append, NewEvent

BATCH = 1_000
AT_ONCE = 256
STREAMS = 100
TURN_S = 0.08
"""Short, so that the ways meet the same neighbours."""
BOUND = "log.submit"
FIELDS = {"email_id": 1, "progress": 75, "message": "正在检查邮件 15/20", "check_id": 88}
TYPE = "parcel_progress"
METRICS = (
    Metric("events", "1/s", compare=True),
    Metric("cpu", "µs an event", higher_is_better=False, compare=True),
)

type Way = Callable[[int], Awaitable[object]]
"""Make the events from this number on durable: a batch, or one."""


def ways(app: Huahuo) -> tuple[dict[str, Way], dict[str, Way]]:
    """How to write a batch, and how to write one event."""
    log = app.running.log
    streams = [f"user/{n}" for n in range(1, STREAMS + 1)]
    rows = [(streams[n % STREAMS], TYPE, FIELDS) for n in range(BATCH)]
    body = json_bytes({"type": TYPE, "timestamp": rfc3339(0), **FIELDS})

    def submit(first: int, count: int) -> Awaitable[object]:
        events = tuple([NewEvent(streams[n % STREAMS], TYPE, body) for n in range(first, first + count)])
        return log.submit(Append(ts_ms=0, events=events, principal="service"))

    return (
        {BOUND: lambda first: submit(first, BATCH), "publish_many": lambda _first: app.publish_many(rows)},
        {
            BOUND: lambda first: submit(first, 1),
            "publish": lambda first: app.publish(streams[first % STREAMS], TYPE, FIELDS),
        },
    )


async def flood(way: Way, at_once: int, seconds: float) -> tuple[int, float, float]:
    """Call for `seconds` with `at_once` calls under way: how many calls, elapsed time, processor time."""
    calls = 0
    start_cpu_s, start_s = time.process_time(), time.perf_counter()

    async def caller() -> None:
        nonlocal calls
        while True:
            calls += 1
            await way(calls)
            if time.perf_counter() - start_s > seconds:
                return

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return calls, time.perf_counter() - start_s, time.process_time() - start_cpu_s


async def measure(folder: Path, options: Options, batches: Sheet, singles: Sheet) -> None:
    """All rounds over one data directory, the ways in turns."""
    turns = 1 if options.quick else 8
    async with Huahuo(data=folder / "data", port=0, log_level="error") as app:
        many, one = ways(app)
        for _ in range(options.rounds):
            for sheet, cases, at_once, events in ((batches, many, 1, BATCH), (singles, one, AT_ONCE, 1)):
                spent = dict.fromkeys(cases, (0, 0.0, 0.0))
                for turn in range(turns):
                    for case in cases if turn % 2 else reversed(cases):
                        calls, took_s, cpu_s = await flood(cases[case], at_once, TURN_S)
                        before = spent[case]
                        spent[case] = (before[0] + calls, before[1] + took_s, before[2] + cpu_s)
                for case, (calls, took_s, cpu_s) in spent.items():
                    sheet.add(case, events=events * calls / took_s, cpu=cpu_s * 1e6 / events / calls)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    batches = Sheet(f"{BATCH:,} events a commit, one commit after the other", METRICS, BOUND)
    singles = Sheet(f"single events, {AT_ONCE} at once", METRICS, BOUND)
    loops.run(measure(options.folder, options, batches, singles))
    return [batches, singles]
