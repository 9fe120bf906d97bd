"""The walk over the newest events judges each one the same, however many stand on its page with it."""

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.names import read_naming
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.seq_index import Walked, walk
from tests.support.worlds.sqlite_logs import opened

EVENTS = 60
CHANGES = (
    "SET body = CAST('x' || body AS BLOB)", "SET seq = seq + 1", "SET type = type + 1", "SET ts = ts + 1",
    "SET chain = zeroblob(32)", "SET stream = 1 + stream % 4", "SET stream = 99",
    "SET entity = CAST(x'ff' AS TEXT)", "SET principal = 'x'", "SET build = 99",
)  # fmt: skip


async def filled(directory: Path) -> None:
    rng = Random(1)
    log = await opened(directory)
    for n in range(EVENTS):
        await log.append(Append(ts_ms=n, events=(NewEvent(f"user/{rng.randrange(4)}", "said", b"%d" % n),)))
    await log.close()


def walked(connection: sqlite3.Connection, after: int) -> list[Walked]:
    return list(walk(connection, after, read_naming(connection)))


@pytest.mark.parametrize("change", ["", *CHANGES])
async def test_an_event_is_judged_alone_as_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    await filled(tmp_path)
    rng = Random(change)
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as connection:
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        changed = rng.sample(range(1, EVENTS + 1), 2) if change else []
        for position in changed:
            connection.execute(f"UPDATE event {change} WHERE position = ?", (position,))
        for after in (0, 7, 30):
            told = []
            for page_events in (1, 7, EVENTS):
                monkeypatch.setattr(seq_index, "_PAGE_EVENTS", page_events)
                told.append(walked(connection, after))
            assert told[0] == told[1] == told[2]
            assert len(told[0]) == EVENTS - after
            unfit = {one.position for one in told[0] if not one.fits}
            assert unfit >= {position for position in changed if position > after}
            assert changed or not unfit
