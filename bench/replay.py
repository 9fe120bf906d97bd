"""How quickly does the debugger look back into a log of a million events?

The guess before the first run: a seek to any moment of the busiest user costs a keyframe and at most
5,000 events, so under 50 ms; the fold alone does a million events a second, reading from SQLite
halves that; blame and a bisected `when` are a few seeks, an unbisected `when` walks everything.

Times of the processor (all threads) stand beside those of the clock: on a busy machine only the
former can be compared. Every figure is of one core.

    python -m bench.replay [--directory DIR] [--events N] [--json FILE]
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter as clock
from time import process_time
from typing import Any

from bench.make_log import make
from eventstore.model import LOG_STREAM, StoredEvent
from eventstore.schema import DATABASE
from eventstore.view import SqliteView
from mailcheck.mailbox import MailboxFold
from mailcheck.rows import RosterFold
from mailcheck.subjects import MailboxSubject, RosterSubject
from replay.delta import parse_path
from replay.history import pages_of
from replay.predicate import parse
from replay.subject import Subject
from replay.timeline import Timeline, blame, first_true

SEEKS = 200
BUSY_USER, BUSY_MAILBOX = 1, 17

type Figures = dict[str, object]


def quantile(samples_s: list[float], share: float) -> float:
    """The sample below which `share` of all lie."""
    ordered = sorted(samples_s)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def measure(directory: Path, seeks: int = SEEKS) -> Figures:
    """All figures over one log."""
    begun = clock()
    view = await SqliteView.open(directory)
    try:
        found: Figures = {
            "events": view.position,
            "open_s": round(clock() - begun, 3),
            "streams": len(view.streams("")),
        }
        roster, mailbox = RosterSubject(BUSY_USER), MailboxSubject(BUSY_MAILBOX, BUSY_USER)
        found["busy_user_events"] = view.head(roster.stream).seq
        found["full_fold"] = await _fold(view)
        found["fold_alone"] = await _fold_alone(view, roster.stream)
        found["state_user"] = await _seeks(view, roster, seeks)
        found["state_mailbox"] = await _seeks(view, mailbox, seeks)
        found["walk_mailbox_diff"] = await _timed(lambda: _walk(view, mailbox), view.head(roster.stream).seq)
        found["blame"] = await _timed(lambda: _blame(view, mailbox))
        found["when_bisected"] = await _timed(lambda: _when(view, mailbox, "mail_count >= 100", bisect=True))
        found["when_walked"] = await _timed(lambda: _when(view, mailbox, "mail_count >= 100", bisect=False))
        found["verify"] = await _timed(view.verify, view.position)
        return found
    finally:
        await view.close()


async def _fold(view: SqliteView) -> Figures:
    """Read the whole log in its order, and fold every stream."""

    async def work() -> None:
        states: dict[str, Any] = {}
        evolves: dict[str, Callable[[Any, StoredEvent], Any]] = {}
        async for page in pages_of(view, LOG_STREAM, 0, view.position):
            for event in page:
                stream = event.stream
                evolve = evolves.get(stream)
                if evolve is None:
                    fold = RosterFold() if stream.startswith("user/") else MailboxFold()
                    states[stream] = fold.initial(stream)
                    evolve = evolves[stream] = fold.evolve
                states[stream] = evolve(states[stream], event)

    return await _timed(work, view.position)


async def _fold_alone(view: SqliteView, stream: str) -> Figures:
    """Fold one stream that is in memory already."""
    pages = [page async for page in pages_of(view, stream, 0, view.head(stream).seq)]

    async def work() -> None:
        fold = RosterFold()
        state, evolve = fold.initial(stream), fold.evolve
        for page in pages:
            for event in page:
                state = evolve(state, event)

    return await _timed(work, view.head(stream).seq)


async def _seeks(view: SqliteView, subject: Subject, seeks: int) -> Figures:
    """States at random moments, each from a fresh start."""
    chance = random.Random(1)
    wall: list[float] = []
    cpu: list[float] = []
    for _ in range(seeks):
        position = chance.randrange(1, view.position + 1)
        timeline = Timeline(view, subject)
        wall_s, cpu_s = clock(), process_time()
        await timeline.seek(position)
        wall.append(clock() - wall_s)
        cpu.append(process_time() - cpu_s)
    return {
        "p50_ms": round(quantile(wall, 0.5) * 1000, 2),
        "p99_ms": round(quantile(wall, 0.99) * 1000, 2),
        "max_ms": round(max(wall) * 1000, 2),
        "cpu_p50_ms": round(statistics.median(cpu) * 1000, 2),
        "cpu_max_ms": round(max(cpu) * 1000, 2),
    }


async def _walk(view: SqliteView, subject: Subject) -> None:
    async for _ in Timeline(view, subject).walk(view.position):
        pass


async def _blame(view: SqliteView, subject: Subject) -> None:
    assert await blame(Timeline(view, subject), parse_path("status"), view.position) is not None


async def _when(view: SqliteView, subject: Subject, text: str, *, bisect: bool) -> None:
    found = await first_true(Timeline(view, subject), parse(text), 0, view.position, monotone=bisect)
    assert found is not None or view.position < 100_000


async def _timed(work: Callable[[], Awaitable[object]], events: int = 0) -> Figures:
    wall_s, cpu_s = clock(), process_time()
    await work()
    wall, cpu = clock() - wall_s, process_time() - cpu_s
    figures: Figures = {"ms": round(wall * 1000, 1), "cpu_ms": round(cpu * 1000, 1)}
    if events:
        figures |= {"events_per_s": round(events / wall), "events_per_cpu_s": round(events / cpu)}
    return figures


async def run(directory: Path, events: int, seeks: int = SEEKS) -> Figures:
    """Make the log if it is not there, and measure."""
    if not (directory / DATABASE).exists():
        await make(directory, events)
    return await measure(directory, seeks)


def main(arguments: list[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="bench.replay", description=__doc__)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="huahuo-bench-") as temporary:
        figures = asyncio.run(run(given.directory or Path(temporary), given.events))
    for name, value in figures.items():
        print(f"{name:>20}  {value}")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
