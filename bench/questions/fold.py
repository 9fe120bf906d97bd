"""How many events a second are folded, and does looking up a past state stay flat as the log grows?

The guess before the first run: 600,000 events a second folded alone and half of that read from SQLite;
a state at a random moment within 20 ms whether the log has 10,000 events or 10,000,000, since a keyframe
is never more than some thousand events away; pyeventsourcing a twentieth in folding, and as flat where
its snapshots are on.

The log is a service's: users with mailboxes and their checks (`make_log`), one of them with 40 % of all.
pyeventsourcing has one aggregate of as many events as that user, over SQLite, with snapshots.
"""

import asyncio
import random
import statistics
import time
from pathlib import Path

from bench.harness.harness import OURS, Metric, Options, Sheet
from bench.questions.make_log import made
from bench.servers.peers import aggregates
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.mailcheck.replay_subjects import RosterSubject
from huahuo.mailcheck.roster.state import RosterFold
from huahuo.replay.history.history import pages_of
from huahuo.replay.history.timeline import Timeline

SIZES = (10_000, 100_000, 1_000_000)
LARGE = 10_000_000
BUSY_USER = 1
FOLDED_MAX = 500_000
PEER_EVENTS_MAX = 40_000
METRICS = (
    Metric("folded", "events/s in memory", compare=True),
    Metric("read_and_folded", "events/s from the file", compare=True),
    Metric("state_p50", "ms at a random moment", higher_is_better=False, compare=True),
    Metric("state_p99", "ms", higher_is_better=False),
    Metric("events", "of that stream"),
)


def run(options: Options) -> list[Sheet]:
    """See the module."""
    sizes = (3_000,) if options.quick else (*SIZES, *((LARGE,) if options.large else ()))
    seeks = 5 if options.quick else 50
    sheets = []
    for size in sizes:
        sheet = Sheet(f"a log of {size:,} events", METRICS)
        folder = asyncio.run(made(options, size))
        why = "" if options.wants(aggregates.NAME) else "not asked for"
        why = why or aggregates.missing()
        if why:
            sheet.miss(aggregates.NAME, why)
        found = {}
        for turn in range(options.rounds):
            found = asyncio.run(ours(folder, seeks))
            sheet.add(OURS, **found)
            if not why:
                events = min(PEER_EVENTS_MAX, int(found["events"]))
                place = options.folder / f"aggregate-{size}.db"
                sheet.add(aggregates.NAME, **aggregates.measure(place, events, seeks if turn else 5))
                if events < found["events"]:
                    sheet.note(f"{aggregates.NAME}: {events:,} events only, more take minutes to make")
        sheets.append(sheet)
    flat = Sheet("a state at a random moment, by size of the log", METRICS[2:4], baseline=f"{sizes[0]:,}")
    for size, sheet in zip(sizes, sheets, strict=True):
        for p50, p99 in zip(sheet.samples[OURS]["state_p50"], sheet.samples[OURS]["state_p99"], strict=True):
            flat.add(f"{size:,}", state_p50=p50, state_p99=p99)
    return [*sheets, flat]


async def ours(folder: Path, seeks: int) -> dict[str, float]:
    """One round over one log."""
    view = await SqliteView.open(folder)
    try:
        stream = f"user/{BUSY_USER}"
        head = view.head(stream).seq
        began_s = time.monotonic()
        pages = [page async for page in pages_of(view, stream, 0, min(head, FOLDED_MAX))]
        read_s = time.monotonic() - began_s
        fold = RosterFold()
        state, count = fold.initial(stream), 0
        began_s = time.monotonic()
        for page in pages:
            for event in page:
                state = fold.evolve(state, event)
            count += len(page)
        folded_s = time.monotonic() - began_s
        chance = random.Random(1)
        took_ms = []
        for _ in range(seeks):
            timeline = Timeline(view, RosterSubject(BUSY_USER))
            began_s = time.monotonic()
            await timeline.seek(chance.randrange(1, view.position + 1))
            took_ms.append((time.monotonic() - began_s) * 1000)
    finally:
        await view.close()
    cuts = statistics.quantiles(took_ms, n=100)
    return {
        "folded": count / folded_s,
        "read_and_folded": count / (read_s + folded_s),
        "state_p50": cuts[49],
        "state_p99": cuts[98],
        "events": head,
    }
