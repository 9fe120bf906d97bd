"""Do an append, a resume and an audit question cost the same in a log of any size?

The guess before the first run: yes, within 20 % from 100,000 to 10,000,000 events, since every look-up is
an index's; an append to 10,000 streams a little dearer than to 100, because its index pages are more.

One log grows, with a principal for each 100 events; at each size 200 appends of 100 events, 200 resumes
(the last 10 events of a random stream, read from the file) and 50 audit questions (what a random principal
did in the last 100,000 events: about 100 rows).
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.harness import Metric, Options, Sheet
from eventstore.ambient import SystemAmbient
from eventstore.audit import Audit
from eventstore.audit_index import Where
from eventstore.model import Append, NewEvent
from eventstore.sqlite import SqliteLog

SIZES = (100_000, 1_000_000)
LARGE = 10_000_000
STREAMS = (100, 1_000, 10_000)
BODY = b'{"type":"check_progress","email_id":17,"progress":75,"message":"%s"}' % (b"x" * 188)
PRINCIPALS = 1_000
BATCH = 100
RESUMED = 10
LOOKED_BACK = BATCH * PRINCIPALS
METRICS = (
    Metric("append", "µs/event in batches of 100", higher_is_better=False, compare=True),
    Metric("resume", "ms for 10 events", higher_is_better=False, compare=True),
    Metric("audit", "ms for 100 rows", higher_is_better=False, compare=True),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sizes = (1_000, 2_000) if options.quick else (*SIZES, *((LARGE,) if options.large else ()))
    sheets = []
    for streams in (10,) if options.quick else STREAMS:
        sheet = Sheet(f"{streams:,} streams", METRICS, baseline=f"{sizes[0]:,} events")
        folder = options.folder / str(streams)
        asyncio.run(grow(folder, streams, sizes, sheet, options))
        sheets.append(sheet)
    return sheets


async def grow(folder: Path, streams: int, sizes: tuple[int, ...], sheet: Sheet, options: Options) -> None:
    """Fill one log and stop to measure at each size."""
    times = 5 if options.quick else 200
    log = await SqliteLog.open(folder, ambient=SystemAmbient(), master_key=bytes(32), build="bench")
    audit = await Audit.open(log, folder / "audit-index.db")
    chance = random.Random(1)
    try:
        for size in sizes:
            while log.position < size:
                await asyncio.gather(*(fill(log, streams, log.position + n * BATCH) for n in range(10)))
            while not await audit.catch_up(50_000):
                pass
            for _ in range(options.rounds):
                sheet.add(
                    f"{size:,} events",
                    append=await appends(log, streams, times) * 1e6 / BATCH,
                    resume=await resumes(log, streams, times, chance) * 1e3,
                    audit=await questions(log, audit, times // 4 + 1, chance) * 1e3,
                )
    finally:
        await audit.close()
        await log.close()


async def fill(log: SqliteLog, streams: int, first: int) -> None:
    """Append a batch, each event to the next stream; the next batch is another principal's."""
    events = tuple(
        NewEvent(f"user/{n % streams}", "check_progress", BODY, 1, f"mailbox/{n % streams}")
        for n in range(first, first + BATCH)
    )
    await log.append(Append(ts_ms=first, events=events, principal=f"user/{first // BATCH % PRINCIPALS}"))


async def appends(log: SqliteLog, streams: int, times: int) -> float:
    """Median seconds of an append of a batch."""
    return await _median(times, lambda: fill(log, streams, log.position))


async def resumes(log: SqliteLog, streams: int, times: int, chance: random.Random) -> float:
    """Median seconds to read the last events of a stream."""

    async def one() -> None:
        stream = f"user/{chance.randrange(min(streams, log.position))}"
        await log.read(stream, max(0, log.head(stream).seq - RESUMED), events_max=RESUMED)

    return await _median(times, one)


async def questions(log: SqliteLog, audit: Audit, times: int, chance: random.Random) -> float:
    """Median seconds of a question: what did this principal do last?"""

    async def one() -> None:
        where = Where(principal=f"user/{chance.randrange(PRINCIPALS)}")
        await audit.page(where, after=max(0, log.position - LOOKED_BACK), limit=100)

    return await _median(times, one)


async def _median(times: int, work: Callable[[], Awaitable[None]]) -> float:
    took_s = []
    for _ in range(times):
        began_s = time.monotonic()
        await work()
        took_s.append(time.monotonic() - began_s)
    return statistics.median(took_s)
