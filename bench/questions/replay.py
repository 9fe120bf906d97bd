"""How quickly does the debugger look back into a log of a million events?

The guess before the first run: a seek to any moment of the busiest user costs a keyframe and at most
5,000 events, so under 50 ms; the fold alone does a million events a second, reading from SQLite
halves that; blame and a bisected `when` are a few seeks, an unbisected `when` walks everything.

Besides times of the clock, times of the processor (all threads) are given: on a busy machine only the
latter can be compared. Every figure is of one core.
"""

import asyncio
import random
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter as clock
from time import process_time
from typing import Any

from bench.harness.harness import Metric, Options, Sheet
from bench.questions.make_log import made
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.mailcheck.mailbox.state import MailboxFold
from huahuo.mailcheck.replay_subjects import MailboxSubject, RosterSubject
from huahuo.mailcheck.roster.state import RosterFold
from huahuo.replay.history.delta import parse_path
from huahuo.replay.history.history import pages_of
from huahuo.replay.history.predicate import parse
from huahuo.replay.history.subject import Subject
from huahuo.replay.history.timeline import Timeline, blame, first_true

EVENTS = 1_000_000
FOLDED_MAX = 300_000
SEEKS = 50
BUSY_USER, BUSY_MAILBOX = 1, 17
LATENCIES = (
    Metric("p50", "ms", higher_is_better=False, compare=True),
    Metric("worst", "ms of a round", higher_is_better=False),
    Metric("cpu_p50", "ms", higher_is_better=False, compare=True),
)
RATES = (
    Metric("events", "1/s", compare=True),
    Metric("cpu", "µs/event", higher_is_better=False, compare=True),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    directory = asyncio.run(made(options, 3_000 if options.quick else EVENTS))
    looks = Sheet("one look back", LATENCIES, baseline="")
    whole = Sheet("many events in a row", RATES, baseline="")
    for _ in range(options.rounds):
        asyncio.run(measure(directory, 5 if options.quick else SEEKS, looks, whole))
    return [looks, whole]


async def measure(directory: Path, seeks: int, looks: Sheet, whole: Sheet) -> None:
    """One round over one log."""
    view = await SqliteView.open(directory)
    try:
        roster, mailbox = RosterSubject(BUSY_USER), MailboxSubject(BUSY_MAILBOX, BUSY_USER)
        busy = view.head(roster.stream).seq
        looks.note(f"{view.position:,} events, {len(view.streams(''))} streams, {busy:,} events of the user")
        await _seeks(view, roster, seeks, looks, "state of the busiest user")
        await _seeks(view, mailbox, seeks, looks, "state of a mailbox")
        for name, work in {
            "blame": lambda: _blame(view, mailbox),
            "when, bisected": lambda: _when(view, mailbox, "mail_count >= 100", bisect=True),
            "when, walked": lambda: _when(view, mailbox, "mail_count >= 100", bisect=False),
        }.items():
            took_s, cpu_s = await _timed(work)
            looks.add(name, p50=took_s * 1e3, worst=took_s * 1e3, cpu_p50=cpu_s * 1e3)
        pages = [page async for page in pages_of(view, roster.stream, 0, busy)]
        folded = min(FOLDED_MAX, view.position)
        for name, events, job in (
            ("read and folded in the log's order", folded, lambda: _fold(view, folded)),
            ("folded in memory, one stream", busy, lambda: _fold_alone(pages, roster.stream)),
            ("walked with differences, one mailbox", busy, lambda: _walk(view, mailbox)),
        ):
            took_s, cpu_s = await _timed(job)
            whole.add(name, events=events / took_s, cpu=cpu_s / events * 1e6)
    finally:
        await view.close()


async def _fold(view: SqliteView, upto: int) -> None:
    """Read the log in its order, and fold every stream."""
    states: dict[str, Any] = {}
    evolves: dict[str, Callable[[Any, StoredEvent], Any]] = {}
    async for page in pages_of(view, LOG_STREAM, 0, upto):
        for event in page:
            stream = event.stream
            evolve = evolves.get(stream)
            if evolve is None:
                fold = RosterFold() if stream.startswith("user/") else MailboxFold()
                states[stream] = fold.initial(stream)
                evolve = evolves[stream] = fold.evolve
            states[stream] = evolve(states[stream], event)


async def _fold_alone(pages: list[Any], stream: str) -> None:
    """Fold one stream that is in memory already."""
    fold = RosterFold()
    state, evolve = fold.initial(stream), fold.evolve
    for page in pages:
        for event in page:
            state = evolve(state, event)


async def _seeks(view: SqliteView, subject: Subject, seeks: int, sheet: Sheet, name: str) -> None:
    """States at random moments, each from a fresh start."""
    chance = random.Random(1)
    took: list[tuple[float, float]] = []
    for _ in range(seeks):
        position = chance.randrange(1, view.position + 1)
        timeline = Timeline(view, subject)
        took.append(await _timed(lambda: timeline.seek(position)))  # noqa: B023  called at once
    wall_s, cpu_s = zip(*took, strict=True)
    sheet.add(
        name,
        p50=statistics.median(wall_s) * 1e3,
        worst=max(wall_s) * 1e3,
        cpu_p50=statistics.median(cpu_s) * 1e3,
    )


async def _walk(view: SqliteView, subject: Subject) -> None:
    async for _ in Timeline(view, subject).walk(view.position):
        pass


async def _blame(view: SqliteView, subject: Subject) -> None:
    assert await blame(Timeline(view, subject), parse_path("status"), view.position) is not None


async def _when(view: SqliteView, subject: Subject, text: str, *, bisect: bool) -> None:
    found = await first_true(Timeline(view, subject), parse(text), 0, view.position, monotone=bisect)
    assert found is not None or view.position < 100_000


async def _timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    began_s, cpu_s = clock(), process_time()
    await work()
    return clock() - began_s, process_time() - cpu_s
