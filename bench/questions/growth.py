"""Do an append, a resume and an audit question cost the same in a log of any size?

The guess before the first run: yes, within 20 % from 100,000 to 10,000,000 events, since every look-up is
an index's; an append to 10,000 streams a little dearer than to 100, because its index pages are more.

The log of one service grows by `publish_many` and is copied at each size. Then a service of each size runs
and they take turns, some commits of 100 events to 100 streams each, some resumes (the last 10 events of a
random stream, read from the file) and audit questions (what happened on a random stream in the last 100,000
events that it grew by: about 100 rows), until each size has done the same amount of each. The clock
depends on a noisy disk, so processor time and written bytes are reported too. The audit index is made
for one number of streams only: it does not know streams from other fields, and takes longer than the log.
"""

import asyncio
import contextlib
import random
import shutil
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness.harness import Metric, Options, Sheet
from bench.servers.peers.recorders import FIELDS, TYPE
from huahuo import Huahuo
from huahuo.eventstore.audit.query import Where
from huahuo.eventstore.audit.questions import Audit
from huahuo.eventstore.core.log import StoreLog

SIZES = (100_000, 1_000_000)
LARGE = 10_000_000
STREAMS = (100, 1_000, 10_000)
AUDITED_STREAMS = 1_000
BATCH = 100
FILL_BATCH = 20_000
"""At once while a log is made: pages of its index are written once for many events."""
RESUMED = 10
LOOKED_BACK = 100 * AUDITED_STREAMS
TURNS = 4
"""Of each size, in each round."""
APPENDS, RESUMES, QUESTIONS = 160, 50, 10
"""In each turn. The appends of a round are enough for a whole round of the index that runs behind."""
METRICS = (
    Metric("append", "µs/event in batches of 100", higher_is_better=False, compare=True),
    Metric("append_cpu", "µs/event", higher_is_better=False, compare=True),
    Metric("written", "B/event", higher_is_better=False, compare=True),
    Metric("resume", "ms for 10 events", higher_is_better=False, compare=True),
    Metric("audit", "ms for 100 rows", higher_is_better=False, compare=True),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sizes = (1_000, 2_000) if options.quick else (*SIZES, *((LARGE,) if options.large else ()))
    sheets = []
    for streams in (AUDITED_STREAMS,) if options.quick else STREAMS:
        sheet = Sheet(f"{streams:,} streams", METRICS, baseline=_case(sizes[0]))
        folder = options.folder / str(streams)
        asyncio.run(measure(folder, streams, sizes, sheet, options))
        shutil.rmtree(folder)
        sheets.append(sheet)
    return sheets


async def measure(folder: Path, streams: int, sizes: tuple[int, ...], sheet: Sheet, options: Options) -> None:
    """Make a log of each size, then let them take turns."""
    for size, before in zip(sizes, (None, *sizes), strict=False):
        if before is not None:
            shutil.copytree(folder / str(before), folder / str(size))
        await grow(folder / str(size), streams, size)
    async with contextlib.AsyncExitStack() as stack:
        grown = [await Grown.open(folder / str(size), streams, size, stack) for size in sizes]
        for one in grown:
            await one.turn()  # whatever is done for the first time only
        for number in range(options.rounds):
            for one in grown:
                one.took = Took()
            for turn in range(1 if options.quick else TURNS):
                # The one that comes first does in every other turn, so that a drift hits all alike.
                for one in grown[:: 1 if (number + turn) % 2 else -1]:
                    await one.turn()
            for one in grown:
                sheet.add(_case(one.size), **one.took.figures())


async def grow(folder: Path, streams: int, size: int) -> None:
    """Bring a log and its audit index to a size."""
    async with service(folder) as app:
        log = log_of(app)
        audit = await Audit.open(log, folder / "audit-index.db")
        try:
            while log.position < size:
                await append(app, streams, min(FILL_BATCH, size - log.position))
            if streams == AUDITED_STREAMS:
                await audit.catch_up()
        finally:
            await audit.close()


def service(folder: Path) -> Huahuo:
    """An application without entities, which nobody is connected to."""
    return Huahuo(data=folder, port=0, log_level="error")


def log_of(app: Huahuo) -> StoreLog:
    """The log of a running service, to read from."""
    log = app.running.log
    assert isinstance(log, StoreLog)
    return log


async def append(app: Huahuo, streams: int, count: int) -> None:
    """Publish events, each to the next stream, `BATCH` of them in a commit."""
    first = app.running.log.position
    await asyncio.gather(
        *(
            app.publish_many(
                [
                    (f"user/{n % streams}", TYPE, FIELDS)
                    for n in range(start, min(start + BATCH, first + count))
                ]
            )
            for start in range(first, first + count, BATCH)
        )
    )


@dataclass
class Took:
    """What one size needed in one round."""

    append_s: list[float] = field(default_factory=list)
    append_cpu_s: float = 0.0
    written: int = 0
    resume_s: list[float] = field(default_factory=list)
    audit_s: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """As the sheet has them."""
        events = BATCH * len(self.append_s)
        audited = {"audit": statistics.median(self.audit_s) * 1e3} if self.audit_s else {}
        return audited | {
            "append": statistics.median(self.append_s) / BATCH * 1e6,
            "append_cpu": self.append_cpu_s / events * 1e6,
            "written": self.written / events,
            "resume": statistics.median(self.resume_s) * 1e3,
        }


@dataclass
class Grown:
    """A running service with a log of some size."""

    app: Huahuo
    log: StoreLog
    audit: Audit
    streams: int
    size: int
    chance: random.Random
    took: Took = field(default_factory=Took)

    @classmethod
    async def open(cls, folder: Path, streams: int, size: int, stack: contextlib.AsyncExitStack) -> "Grown":
        """Open it until `stack` unwinds."""
        app = await stack.enter_async_context(service(folder))
        log = log_of(app)
        audit = await Audit.open(log, folder / "audit-index.db")
        stack.push_async_callback(audit.close)
        return cls(app, log, audit, streams, size, random.Random(1))

    async def turn(self) -> None:
        """A few of everything."""
        cpu_s, written = time.process_time(), _written()
        self.took.append_s += await _times(APPENDS, lambda: append(self.app, self.streams, BATCH))
        self.took.append_cpu_s += time.process_time() - cpu_s
        self.took.written += _written() - written
        self.took.resume_s += await _times(RESUMES, self._resume)
        if self.streams == AUDITED_STREAMS:
            self.took.audit_s += await _times(QUESTIONS, self._question)

    async def _resume(self) -> None:
        stream = f"user/{self.chance.randrange(min(self.streams, self.log.position))}"
        await self.log.read(stream, max(0, self.log.head(stream).seq - RESUMED), events_max=RESUMED)

    async def _question(self) -> None:
        where = Where(stream=f"user/{self.chance.randrange(AUDITED_STREAMS)}")
        await self.audit.page(where, after=max(0, self.size - LOOKED_BACK), limit=100)


async def _times(times: int, work: Callable[[], Awaitable[object]]) -> list[float]:
    took_s = []
    for _ in range(times):
        began_s = time.monotonic()
        await work()
        took_s.append(time.monotonic() - began_s)
    return took_s


def _written() -> int:
    """Bytes that this process has handed to the file system (Linux)."""
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise AssertionError("no wchar in /proc/self/io")


def _case(size: int) -> str:
    return f"{size:,} events"
