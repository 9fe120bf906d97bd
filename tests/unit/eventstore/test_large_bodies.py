"""A page of events with large bodies takes memory for those that it gives, not for those that it might."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.events import EVENTS_AT, EVENTS_BY_POSITION, EVENTS_BY_SEQ, select_events
from huahuo.eventstore.sqlite.names import Names
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.sqlite_logs import opened

EVENTS = 12
BODY_BYTES = 1 << 20
ROOM_BYTES = 2 << 20


class Rows:
    """Counts the rows that a connection makes."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, _cursor: object, row: tuple[Any, ...]) -> tuple[Any, ...]:
        self.made += 1
        return row


async def filled(directory: Path) -> Any:
    log = await opened(directory)
    for n in range(EVENTS):
        await log.append(Append(ts_ms=n, events=(NewEvent("user/1", "said", b"x" * BODY_BYTES),)))
    await log.append(Append(ts_ms=EVENTS, events=(NewEvent("user/1", "said", b"x"),)))
    return log


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        (EVENTS_BY_POSITION, (0, 100, 100)),
        (EVENTS_BY_SEQ, (1, 0, 100, 100)),
        (EVENTS_AT, (str([*range(1, EVENTS + 1)]), 100)),
    ],
)
async def test_a_read_fetches_no_more_than_it_may_return_and_one_event(
    tmp_path: Path, sql: str, values: tuple[int | str, ...]
) -> None:
    await (await filled(tmp_path)).close()  # completes the index
    rows, names = Rows(), Names()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        names.add("user/1", 1)
        names.texts.update(connection.execute("SELECT id, text FROM name"))
        connection.row_factory = rows
        found = select_events(connection, names, sql, values, ROOM_BYTES)
    assert (len(found.events), len(found.links), rows.made) == (2, 2, 3)
