"""Reading events from SQLite: checked against the hash chain, or their bodies joined for the wire.

The table `seq_index` maps a seq to its position; for the newest events `Unindexed` does. SQLite joins the
bodies, many in one step: fetched row by row, each row would need the interpreter's lock. A join is
returned only if it fits the running checksums (`huahuo.eventstore.sqlite.schema`).
"""

import contextlib
import sqlite3
from collections.abc import Generator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from huahuo.eventstore.core.chain import GENESIS, relink
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.model import LOG_STREAM, Joined, StoredEvent, Tombstone, joined_of
from huahuo.eventstore.sqlite.names import Names, names_of
from huahuo.eventstore.sqlite.schema import crc_after, crc_of_name
from huahuo.eventstore.sqlite.seq_index import crc_at

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
    return not seqs or count_pruned(connection, stream, seqs) == len(seqs)


def count_pruned(connection: sqlite3.Connection, stream: int, seqs: range) -> int:
    """How many of `seqs` were pruned."""
    sql = "SELECT count(DISTINCT seq) FROM pruned WHERE stream = ? AND seq >= ? AND seq < ?"
    found: int = connection.execute(sql, (stream, seqs.start, seqs.stop)).fetchone()[0]
    return found


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


_COLUMNS = (
    "position, stream, seq, type, body, version, ts, entity, principal, command_id, cause, build, chain"
)
_EVENT_COLUMNS = _COLUMNS.replace("position, stream, seq,", "event.position, event.stream, event.seq,")
_BEFORE = "(SELECT chain FROM event AS before WHERE before.position = event.position - 1)"
"""Asked with the event, it costs a seek; in a statement of its own, as much as a lone event."""
EVENTS_BY_SEQ = f"SELECT {_EVENT_COLUMNS}, {_BEFORE} {BY_SEQ}"
EVENTS_AT = f"SELECT {_COLUMNS}, {_BEFORE} {AT_POSITIONS}"
EVENTS_BY_POSITION = (
    f"SELECT {_COLUMNS}, NULL FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"  # noqa: S608  constant
)
_BATCH_ROWS = 256
_BODY = 4
"""Of `_COLUMNS`."""
_before = itemgetter(-1)


class Found(NamedTuple):
    """Events, and for each the link of the one before it in the log, None where that was not asked for."""

    events: list[StoredEvent]
    links: list[bytes | None]


def select_events(
    connection: sqlite3.Connection, names: Names, sql: str, parameters: Sequence[int | str], bytes_max: int
) -> Found:
    """The events of a query until their bodies exceed `bytes_max`; at least one if there is one."""
    events: list[StoredEvent] = []
    links: list[bytes | None] = []
    size = 0
    streams: Mapping[int, str] = names.stream_names
    texts: Mapping[int, str] = names.texts
    cursor = connection.execute(sql, parameters)
    try:
        while rows := _batch(cursor, bytes_max - size):
            try:
                events += _stored(rows, streams, texts)
            except KeyError:  # few pages hold a stream that ended
                streams = names_of(connection, names, {row[1] for row in rows})
                events += _stored(rows, streams, texts)
            links += map(_before, rows)
            size += sum(len(row[_BODY]) for row in rows)
            if size > bytes_max:
                return _within(Found(events, links), bytes_max)
    except KeyError:
        first = next(r[0] for r in rows if r[1] not in streams or not {r[3], r[11]} <= texts.keys())
        raise Corrupt("an event", "its stream, type or build has no name", position=first) from None
    finally:
        cursor.close()  # ends the read transaction also when not all rows were taken
    return Found(events, links)


def _batch(cursor: sqlite3.Cursor, room: int) -> list[tuple[Any, ...]]:
    """The next rows, up to the first with which their bodies exceed `room`: 256 may have 256 MiB."""
    rows = []
    for row in islice(cursor, _BATCH_ROWS):
        rows.append(row)
        room -= len(row[_BODY])
        if room < 0:
            break
    return rows


def _stored(
    rows: list[tuple[Any, ...]], streams: Mapping[int, str], texts: Mapping[int, str]
) -> list[StoredEvent]:
    """The events in `rows`. Raises KeyError for a number without a name."""
    return [
        StoredEvent(
            position, streams[stream], seq, texts[type_], body, version, ts,
            entity, who, command, cause, texts[build], chain,
        )
        for (
            position, stream, seq, type_, body, version, ts,
            entity, who, command, cause, build, chain, _,
        ) in rows
    ]  # fmt: skip


def _within(found: Found, bytes_max: int) -> Found:
    """The first events, until their bodies exceed `bytes_max`; at least one."""
    size = 0
    for count, event in enumerate(found.events):
        size += len(event.body)
        if count and size > bytes_max:
            return Found(found.events[:count], found.links[:count])
    return found


def select_stream(connection: sqlite3.Connection, names: Names, asked: Asked, bytes_max: int) -> Found:
    """As `select_events`, of one stream: first what the table by (stream, seq) has, then what it lacks."""
    found = select_events(connection, names, EVENTS_BY_SEQ, asked.bounds, bytes_max)
    events, links = found
    missing = asked.limit - len(events)
    # If it ended early, by size or because events were pruned, the next call reads the rest.
    if not asked.positions or missing <= 0 or (events and events[-1].seq != asked.upto):
        return found
    at = (as_json(asked.positions), missing)
    newer = select_events(connection, names, EVENTS_AT, at, bytes_max)
    return _within(Found(events + newer.events, links + newer.links), bytes_max)


def prove_stream(connection: sqlite3.Connection, names: Names, asked: Asked, found: Found) -> None:
    """Check the events found of a stream against the chain; a missing one must have been pruned.

    Raises:
        Corrupt: an event belongs to another stream, is not what was written, or was lost.
    """
    place = f"stream {asked.name}"
    last = asked.after
    for event in found.events:
        if event.stream != asked.name:
            raise Corrupt(place, "the index leads to another stream's event", position=event.position)
        if event.seq != last + 1 and not is_pruned(connection, asked.stream, range(last + 1, event.seq)):
            raise Corrupt(place, f"event {last + 1} is lost, or the index leads elsewhere")
        last = event.seq
    if not found.events and not is_pruned(connection, asked.stream, range(asked.after + 1, asked.end + 1)):
        raise Corrupt(place, f"event {asked.after + 1} is lost, or the index leads elsewhere")
    prove_events(connection, names, found)


def prove_positions(
    connection: sqlite3.Connection, after: int, upto: int, events: Sequence[StoredEvent]
) -> None:
    """Check that every event that is missing after `after` was pruned.

    Raises:
        Corrupt: an event was lost.
    """
    end = events[-1].position if events else upto
    missing = end - after - len(events)
    if not missing:
        return
    sql = "SELECT position FROM pruned WHERE position > ? AND position <= ?"
    there = {position for (position,) in connection.execute(sql, (after, end))}
    there.update(event.position for event in events)
    lost = next((position for position in range(after + 1, end + 1) if position not in there), None)
    if lost is not None:
        raise Corrupt(f"stream {LOG_STREAM}", "the event is lost", position=lost)


def prove_events(connection: sqlite3.Connection, names: Names, found: Found) -> None:
    """Check events, ascending by position, against the hash chain.

    Raises:
        Corrupt: the first one that is not what was written.
    """
    wanted: list[int] = []
    end = 0
    for event, linked in zip(*found, strict=True):
        if linked is None and event.position != end + 1:
            wanted.append(event.position - 1)
        end = event.position
    links = _links(connection, wanted) if wanted else {}
    at, before = 0, GENESIS
    for event, linked in zip(*found, strict=True):
        if event.position != at + 1:
            before = linked or links.get(event.position - 1, b"")
        if relink(before, event) != event.chain and not _fits_again(connection, names, event):
            raise Corrupt(
                f"stream {event.stream}",
                f"event {event.seq} does not fit the hash chain",
                position=event.position,
            )
        at, before = event.position, event.chain


def _links(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[int, bytes]:
    """The links at `positions`, pruned or not."""
    links: dict[int, bytes] = {}
    for table in ("event", "pruned"):  # in this order: an event pruned meanwhile moves that way
        asked = as_json([position for position in positions if position not in links])
        sql = f"SELECT position, chain FROM {table} WHERE position IN (SELECT value FROM json_each(?))"  # noqa: S608
        links.update(connection.execute(sql, (asked,)))
        if len(links) == len(positions):
            break
    return links


def _fits_again(connection: sqlite3.Connection, names: Names, event: StoredEvent) -> bool:
    """Whether only the stored link of the previous event is damaged: made anew, it leads to this one."""
    position = event.position - 1
    if position < 1:
        return False
    bounds = (position - 1, position, 1)
    try:
        found = select_events(connection, names, EVENTS_BY_POSITION, bounds, 1 << 62).events
    except (EventStoreError, sqlite3.Error):
        return False
    before = GENESIS if position == 1 else _links(connection, [position - 1]).get(position - 1, b"")
    return bool(found) and relink(relink(before, found[0]), event) == event.chain


def select_tombstones(
    connection: sqlite3.Connection, names: Names, after: int, upto: int, limit: int
) -> list[Tombstone]:
    """The tombstones at positions in (after, upto]."""
    sql = (
        "SELECT position, stream, seq, chain FROM pruned WHERE position > ? AND position <= ?"
        " ORDER BY position LIMIT ?"
    )
    found = connection.execute(sql, (after, upto, limit)).fetchall()
    streams = names_of(connection, names, {stream for _, stream, _, _ in found})
    return [Tombstone(position, streams[stream], seq, chain) for position, stream, seq, chain in found]
