"""Reading the events of one stream from SQLite: where they stand, and their bodies joined for the wire.

Where an event stands is known by the table `seq_index`, or for the newest ones by `Unindexed`. Bodies are
joined by SQLite, many at a step: row by row they would ask for the interpreter's lock once for each.
"""

import contextlib
import sqlite3
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import msgspec

from eventstore.joining import joined_of
from eventstore.model import Joined

BY_SEQ = (
    "FROM seq_index AS found CROSS JOIN event ON event.position = found.position"
    " AND event.stream = found.stream AND event.seq = found.seq"
    " WHERE found.stream = ? AND found.seq > ? AND found.seq <= ? ORDER BY found.seq LIMIT ?"
)
AT_POSITIONS = "FROM event WHERE position IN (SELECT value FROM json_each(?)) ORDER BY position LIMIT ?"
BODIES_BY_SEQ = f"SELECT found.seq AS seq, body {BY_SEQ}"
_BODIES_AT = f"SELECT seq, body {AT_POSITIONS}"
_JOINED = "SELECT min(seq), max(seq), count(*), CAST(group_concat(body) AS BLOB) FROM"
JOINED_BY_SEQ = f"{_JOINED} ({BODIES_BY_SEQ})"
_JOINED_AT = f"{_JOINED} ({_BODIES_AT})"
_PAGES_A_STEP = 8
PAGES_BY_SEQ = "SELECT * FROM " + ", ".join([f"({JOINED_BY_SEQ})"] * _PAGES_A_STEP)  # noqa: S608  constant
_NO_PAGE = (0, 0, 0, 0)
"""Bounds of nothing: there are not always as many pages as the statement has."""
_ROW_BYTES = 64
"""SQLite may keep a page with its three numbers as a row, whose length counts then."""


class Asked(NamedTuple):
    """Events of one stream: behind `after` up to `upto` by the table, then those at `positions`."""

    stream: int
    after: int
    upto: int
    limit: int
    positions: Sequence[int] = ()

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """The parameters of `EVENTS_BY_SEQ` and `BODIES_BY_SEQ`."""
        return self[:4]

    @property
    def end(self) -> int:
        """Where to go on if nothing of it is left: it was pruned, perhaps since its places were looked up."""
        return max(self.after, self.upto) + len(self.positions)


def select_joined(connection: sqlite3.Connection, asked: Sequence[tuple[Asked, int]]) -> list[Joined | None]:
    """The bodies of each page with its limit in bytes, see `Log.read_joined`.

    SQLite joins them, several pages in one step: fetched row by row they would ask for the interpreter's
    lock once for each, beside a loop that holds it most of the time. A blob passes `group_concat` as it
    is, since the database is UTF-8; the subquery's LIMIT keeps its order.
    """
    found: list[Joined | None] = [None] * len(asked)
    indexed = [place for place, (page, _) in enumerate(asked) if not page.positions]
    for start in range(0, len(indexed), _PAGES_A_STEP):
        places = indexed[start : start + _PAGES_A_STEP]
        pages = _joined_in_a_step(connection, [asked[place] for place in places])
        for place, joined in zip(places, pages, strict=True):
            found[place] = joined
    for place, (page, bytes_max) in enumerate(asked):
        if page.positions:
            found[place] = _joined_at_positions(connection, page, bytes_max)
    return found


def _joined_at_positions(connection: sqlite3.Connection, page: Asked, bytes_max: int) -> Joined | None:
    """A page of which the table has nothing, or (seldom) only the first events."""
    if page.upto <= page.after:
        row = _joined_row(connection, _JOINED_AT, (as_json(page.positions), page.limit), bytes_max)
        whole = None if row is None else _whole(row, bytes_max)
        if whole is not None:
            return whole
    with contextlib.closing(_bodies(connection, page)) as rows:
        return joined_of(rows, bytes_max)


def _bodies(connection: sqlite3.Connection, asked: Asked) -> Generator[tuple[int, bytes]]:
    """(seq, body) of what was asked for."""
    count = 0
    with contextlib.closing(connection.execute(BODIES_BY_SEQ, asked.bounds)) as rows:
        for row in rows:
            count += 1
            yield row
    if asked.positions and count < asked.limit:
        at = (as_json(asked.positions), asked.limit - count)
        with contextlib.closing(connection.execute(_BODIES_AT, at)) as rows:
            yield from rows


def as_json(positions: Sequence[int]) -> str:
    """The parameter of `AT_POSITIONS`."""
    return msgspec.json.encode(positions).decode()


def _joined_in_a_step(
    connection: sqlite3.Connection, asked: Sequence[tuple[Asked, int]]
) -> list[Joined | None]:
    alone = len(asked) == 1
    values = [value for page, _ in asked for value in page.bounds]
    if not alone:
        values += _NO_PAGE * (_PAGES_A_STEP - len(asked))
    limit = max(bytes_max for _, bytes_max in asked) + (0 if alone else _ROW_BYTES)
    row = _joined_row(connection, JOINED_BY_SEQ if alone else PAGES_BY_SEQ, values, limit)
    if row is None and not alone:
        return [one for page in asked for one in _joined_in_a_step(connection, [page])]
    found: list[Joined | None] = []
    for place, (page, bytes_max) in enumerate(asked):
        whole = None
        if row is not None:
            part = row[4 * place : 4 * place + 4]
            if not part[2]:
                found.append(None)
                continue
            whole = _whole(part, bytes_max)
        if whole is None:
            with contextlib.closing(_bodies(connection, page)) as rows:
                whole = joined_of(rows, bytes_max)
        found.append(whole)
    return found


def _joined_row(
    connection: sqlite3.Connection, sql: str, values: Sequence[int | str], bytes_max: int
) -> tuple[Any, ...] | None:
    """The row of `sql`; None where a text of it would exceed `bytes_max`: given up on the way, not after."""
    unlimited = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, bytes_max)
    try:
        row: tuple[Any, ...] = connection.execute(sql, values).fetchone()
    except sqlite3.DataError:
        return None
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, unlimited)
    return row


def _whole(row: Sequence[Any], bytes_max: int) -> Joined | None:
    """A joined page, None if it has a hole, is beyond its limit, or empty."""
    first, last, count, bodies = row
    whole = count and last - first + 1 == count and len(bodies) <= bytes_max
    return Joined(first, count, bodies) if whole else None
