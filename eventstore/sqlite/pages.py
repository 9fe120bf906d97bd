"""Reading the events of one stream from SQLite: their positions, and their bodies joined for the wire.

The table `seq_index` maps a seq to its position; for the newest events `Unindexed` does. SQLite joins the
bodies, many in one step: fetched row by row, each row would need the interpreter's lock. The result is
returned only if it fits the running checksums (`huahuo.eventstore.core.sums`).
"""

import contextlib
import sqlite3
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import msgspec

from huahuo.eventstore.core.page_joining import joined_of
from huahuo.eventstore.core.sums import crc_after, crc_of_name
from huahuo.eventstore.model import Joined
from huahuo.eventstore.sqlite.summing import crc_at

BY_SEQ = (
    "FROM seq_index AS found CROSS JOIN event ON event.position = found.position"
    " AND event.stream = found.stream AND event.seq = found.seq"
    " WHERE found.stream = ? AND found.seq > ? AND found.seq <= ? ORDER BY found.seq LIMIT ?"
)
AT_POSITIONS = "FROM event WHERE position IN (SELECT value FROM json_each(?)) ORDER BY position LIMIT ?"
BODIES_BY_SEQ = f"SELECT found.seq AS seq, body, found.crc AS crc {BY_SEQ}"
_BODIES_AT = f"SELECT seq, body {AT_POSITIONS.replace(' ORDER', ' AND stream = ? ORDER')}"
_JOINED = "count(*), CAST(group_concat(body) AS BLOB)"
_CRC = "(SELECT crc FROM seq_index WHERE stream = ? AND seq = ?)"
JOINED_BY_SEQ = f"SELECT {_CRC}, {_CRC}, {_JOINED} FROM (SELECT body {BY_SEQ})"  # noqa: S608  constants
"""The rows carry no seqs: if as many come as there are seqs between the two bounds, none is missing."""
_JOINED_AT = f"SELECT {_JOINED} FROM ({_BODIES_AT})"  # noqa: S608  constants
_PAGES_A_STEP = 8
PAGES_BY_SEQ = "SELECT * FROM " + ", ".join([f"({JOINED_BY_SEQ})"] * _PAGES_A_STEP)  # noqa: S608  constant
_NO_PAGE = (0,) * 8
"""Bounds of an empty page, for when there are fewer pages than the statement has."""
_COLUMNS_A_PAGE = 4
_LIMIT_BYTES_MIN = 4096
"""Of SQLite's own limit: with less it cannot even prepare the statement."""
_ROW_BYTES = 64
"""SQLite may hold a page and its numbers as one row; then the length of the row counts."""


class Asked(NamedTuple):
    """A request for events of one stream: after `after` up to `upto` by the table, then at `positions`.

    `crcs` are the checksums at `positions`, empty if they are not known; `before` is the checksum before
    the first of them, if the table does not have it.
    """

    name: str
    stream: int
    after: int
    upto: int
    limit: int
    positions: Sequence[int] = ()
    crcs: Sequence[int] = ()
    before: int | None = None

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """The parameters of `EVENTS_BY_SEQ` and `BODIES_BY_SEQ`."""
        return self[1:5]

    @property
    def full(self) -> int:
        """The seq of the last event that the table gives, if none is missing."""
        return min(self.upto, self.after + self.limit)

    @property
    def end(self) -> int:
        """Where to continue if all of it was pruned, perhaps after its positions were looked up."""
        return max(self.after, self.upto) + len(self.positions)


def select_joined(connection: sqlite3.Connection, asked: Sequence[tuple[Asked, int]]) -> list[Joined | None]:
    """As `Log.read_joined_pages`: the bodies of each page. None: no events, or no proof.

    SQLite joins several pages in one step. Fetched row by row, each row would need the interpreter's lock,
    which the loop holds most of the time. `group_concat` leaves a blob as it is, since the database is
    UTF-8; the subquery's LIMIT keeps its order.
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
    """A page of which the table has no event or, rarely, only the first ones."""
    if page.crcs and page.upto <= page.after:
        values = (as_json(page.positions), page.stream, page.limit)
        row = _joined_row(connection, _JOINED_AT, values, bytes_max)
        if row is not None:
            before = page.before
            if before is None:
                before = crc_at(connection, page.stream, page.after, page.name)
            proven = _proven(page.after, len(page.positions), (before, page.crcs[-1], *row), bytes_max)
            if proven is not None:
                return proven
    return _joined_by_rows(connection, page, bytes_max)


def _joined_by_rows(connection: sqlite3.Connection, page: Asked, bytes_max: int) -> Joined | None:
    """A page that is too large for SQLite to join, or that begins with a hole."""
    crcs: list[int | None] = []
    with contextlib.closing(_bodies(connection, page, crcs)) as rows:
        joined = joined_of(rows, bytes_max)
    if joined is None:
        return None
    before = page.before if joined.first == max(page.after, page.upto) + 1 else None
    if before is None:
        before = crc_at(connection, page.stream, joined.first - 1, page.name)
    crc = crcs[joined.count - 1]
    if before is None or crc_after(before, joined.bodies) != crc:
        return None
    gone = range(page.after + 1, joined.first)
    return joined if is_pruned(connection, page.stream, gone) else None


def is_pruned(connection: sqlite3.Connection, stream: int, seqs: range) -> bool:
    """Whether all of `seqs` were pruned: an event that is absent for another reason was lost."""
    if not seqs:
        return True
    sql = "SELECT count(DISTINCT seq) FROM pruned WHERE stream = ? AND seq >= ? AND seq < ?"
    found: int = connection.execute(sql, (stream, seqs.start, seqs.stop)).fetchone()[0]
    return found == len(seqs)


def _bodies(
    connection: sqlite3.Connection, asked: Asked, crcs: list[int | None]
) -> Generator[tuple[int, bytes]]:
    """(seq, body) of the requested events; fills `crcs` with their checksums."""
    count = 0
    with contextlib.closing(connection.execute(BODIES_BY_SEQ, asked.bounds)) as rows:
        for seq, body, crc in rows:
            count += 1
            crcs.append(crc)
            yield seq, body
    if asked.positions and count < asked.limit:
        crcs += asked.crcs or [None] * len(asked.positions)
        at = (as_json(asked.positions), asked.stream, asked.limit - count)
        with contextlib.closing(connection.execute(_BODIES_AT, at)) as rows:
            yield from rows


def as_json(positions: Sequence[int]) -> str:
    """The parameter of `AT_POSITIONS`."""
    return msgspec.json.encode(positions).decode()


def _joined_in_a_step(
    connection: sqlite3.Connection, asked: Sequence[tuple[Asked, int]]
) -> list[Joined | None]:
    alone = len(asked) == 1
    values: list[int] = []
    for page, _ in asked:
        stream, after, end = page.stream, page.after, page.full
        values += (stream, after, stream, end, stream, after, end, page.limit)
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
            before, *part = row[_COLUMNS_A_PAGE * place : _COLUMNS_A_PAGE * (place + 1)]
            before = before if page.after else crc_of_name(page.name)
            whole = _proven(page.after, page.full - page.after, (before, *part), bytes_max)
        found.append(_joined_by_rows(connection, page, bytes_max) if whole is None else whole)
    return found


def _joined_row(
    connection: sqlite3.Connection, sql: str, values: Sequence[int | str], bytes_max: int
) -> tuple[Any, ...] | None:
    """The row of `sql`; None if a text in it would exceed `bytes_max`, at which SQLite stops joining."""
    unlimited = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(bytes_max, _LIMIT_BYTES_MIN))
    try:
        row: tuple[Any, ...] = connection.execute(sql, values).fetchone()
    except sqlite3.DataError:
        return None
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, unlimited)
    return row


def _proven(after: int, count: int, row: Sequence[Any], bytes_max: int) -> Joined | None:
    """The `count` events right after `after`; None if some are missing, too large, or fail the checksum."""
    before, crc, found, bodies = row
    if not found or found != count or len(bodies) > bytes_max or before is None:
        return None
    return Joined(after + 1, count, bodies) if crc_after(before, bodies) == crc else None
