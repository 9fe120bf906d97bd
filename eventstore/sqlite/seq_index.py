"""The positions of events by (stream, seq), with running checksums: few pages are written for each commit.

An index that every commit updates writes a page for nearly every stream that the commit touches: 8 KB an
event once each stream has its own page. So the table `seq_index` runs behind. The positions of the newest
events are in memory (`huahuo.eventstore.sqlite.unindexed`). When there are many, they move into the table
in the table's order, a slice with each commit. So a page is written once for many events, and no commit
waits until all have moved.

The table holds every event up to the position `meta.indexed`, and perhaps some after it. An opening log
finds the rest by reading the events after that position, each checked against the hash chain (`walk`).
Each row also has the running checksum of the stream (`huahuo.eventstore.sqlite.schema`).
"""

import sqlite3
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import batched
from itertools import chain as concatenated
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
import structlog

from huahuo.eventstore.core.chain import GENESIS, link
from huahuo.eventstore.errors import Corrupt, Damaged
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.sqlite.connections import snapshot
from huahuo.eventstore.sqlite.names import Names, Naming
from huahuo.eventstore.sqlite.schema import (
    crc_after,
    crc_of_name,
    get_meta,
    in_statements,
    put_meta,
    unlike,
)
from huahuo.eventstore.sqlite.unindexed import Row, Slice, Unindexed

_PAGE_EVENTS = 1000
_PAGE_BYTES = 4 << 20
"""Of bodies, and one more body."""
_EVENTS = (
    "SELECT position, stream, seq, type, body, version, ts, entity, principal, command_id, cause, build,"
    " chain FROM event WHERE position > ? ORDER BY position LIMIT ?"
)
_PRUNED = (
    "SELECT position, stream, seq, chain FROM pruned WHERE position > ? AND position < ? ORDER BY position"
)
_TOMBSTONE_COLUMNS = 4
_LOOKED_UP_AT_ONCE = 256
_CRCS = (
    "SELECT found.stream, found.crc FROM json_each(?) AS asked CROSS JOIN seq_index AS found"
    " ON found.stream = asked.value ->> 0 AND found.seq = asked.value ->> 1"
)

_LAST = (
    "SELECT max((SELECT coalesce(max(seq), 0) FROM seq_index WHERE stream = ?),"
    " (SELECT coalesce(max(seq), 0) FROM pruned WHERE stream = ?))"
)


def crcs_at(connection: sqlite3.Connection, places: Iterable[tuple[int, int]]) -> dict[int, int]:
    """By stream the checksum after event seq, for those of `places`, (stream, seq), that the table has."""
    crcs: dict[int, int] = {}
    for some in batched(places, _LOOKED_UP_AT_ONCE):
        asked = msgspec.json.encode(some).decode()
        crcs.update(connection.execute(_CRCS, (asked,)))
    return crcs


def crc_at(connection: sqlite3.Connection, stream: int, seq: int, name: str) -> int | None:
    """The running checksum of `stream` after event `seq`, kept or pruned; None if it is not known."""
    if not seq:
        return crc_of_name(name)
    for table in ("seq_index", "pruned"):  # in this order: an event pruned meanwhile moves that way
        sql = f"SELECT crc FROM {table} WHERE stream = ? AND seq = ?"  # noqa: S608  two constants
        row = connection.execute(sql, (stream, seq)).fetchone()
        if row is not None:
            crc: int | None = row[0]
            return crc
    return None


class Walked(NamedTuple):
    """An event or a tombstone. `fits`: it is what was written; if it is not, `crc` is made not to fit.

    `link`: its link of the hash chain. `is_misplaced`: its own seq cannot follow, so `seq` is that which can.
    """

    stream: int
    seq: int
    position: int
    crc: int
    is_pruned: bool
    fits: bool
    link: bytes
    is_misplaced: bool = False


type Known = dict[int, tuple[int, int]]
"""By the number of a stream: its last seq so far, and the running checksum there."""


def walk(connection: sqlite3.Connection, after: int, naming: Naming) -> Iterator[Walked]:
    """Every event after position `after`, pruned or not."""
    streams, texts = naming.streams, naming.texts
    known: Known = {}
    before = link_at(connection, after)
    position = after
    for events in _pages(connection, after):
        rows, end = events, events[-1][0]
        if end - position != len(rows):
            pruned = connection.execute(_PRUNED, (position, end)).fetchall()
            rows = sorted(concatenated(rows, pruned), key=lambda row: row[0])
        crcs = crcs_at(connection, _places_before(rows, known))
        for row in rows:
            position, stream, seq = row[:3]
            held = known.get(stream)
            last, crc = held or (seq - 1, crcs.get(stream))
            if crc is None:
                crc = crc_at(connection, stream, seq - 1, streams.get(stream, ""))
            name = streams.get(stream)
            fits = crc is not None and seq == last + 1 and name is not None
            crc, is_pruned = crc or 0, len(row) == _TOMBSTONE_COLUMNS
            proven = is_pruned
            if is_pruned:
                before = row[3]
            else:
                try:
                    facts = (
                        position, name, seq, texts[row[3]], *row[4:11], texts[row[11]],
                    )  # fmt: skip
                    proven = before is not None and name is not None and link(before, facts) == row[12]
                    crc = crc_after(crc, row[4])
                except (KeyError, TypeError, ValueError):
                    proven = False
                before = row[12]
                fits = fits and proven
            if not fits:
                crc = unlike(crc)
            if not proven and name is not None:
                due = (last if held else _last(connection, stream)) + 1
                if seq != due:
                    known[stream] = (due, crc)
                    yield Walked(stream, due, position, crc, False, False, row[-1], True)
                    continue
            known[stream] = (seq, crc)
            yield Walked(stream, seq, position, crc, is_pruned, fits, row[-1])


def _last(connection: sqlite3.Connection, stream: int) -> int:
    """The newest seq of `stream` that the table has, or that was pruned."""
    last: int = connection.execute(_LAST, (stream, stream)).fetchone()[0]
    return last


def _pages(connection: sqlite3.Connection, after: int) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of the events after `after`, many at a time; all that stand before one that is unreadable."""
    limit = _PAGE_EVENTS
    while True:
        try:
            with closing(connection.execute(_EVENTS, (after, limit))) as found:
                rows = _page(found)
        except sqlite3.DatabaseError:
            if limit == 1:
                raise
            limit = 1
            continue
        if not rows:
            return
        if rows[-1][0] <= after:
            raise ValueError("the events are not in order")  # pages changed places: it would never end
        after = rows[-1][0]
        yield rows


def _page(found: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The first rows of `found`, up to `_PAGE_BYTES`."""
    rows, room = [], _PAGE_BYTES
    for row in found:
        rows.append(row)
        body = row[4]
        room -= len(body) if isinstance(body, bytes) else 0
        if room < 0:
            break
    return rows


def _places_before(rows: Sequence[tuple[Any, ...]], known: Container[int]) -> list[tuple[int, int]]:
    """Of each stream that is not known yet, the place before its first row."""
    firsts = {stream: seq for _, stream, seq, *_ in reversed(rows) if stream not in known}
    return [(stream, seq - 1) for stream, seq in firsts.items() if seq > 1]


def link_at(connection: sqlite3.Connection, position: int) -> bytes | None:
    """The link of the chain at `position`, of an event or a tombstone; None if there is neither."""
    if not position:
        return GENESIS
    for table in ("event", "pruned"):
        sql = f"SELECT chain FROM {table} WHERE position = ?"  # noqa: S608  two constants
        row = connection.execute(sql, (position,)).fetchone()
        if row is not None:
            found: bytes = row[0]
            return found
    return None


_CHUNK_EVENTS = 200_000
"""Rows that are sorted in memory at a time when the whole table is rebuilt."""

_log = structlog.get_logger(__name__)


type Links = dict[int, tuple[int, bytes]]
"""By the number of a stream: the seq of an event, and its link of the hash chain."""


UNPLACED = "nothing proves to which place in which stream the event belongs"


def write(connection: sqlite3.Connection, found: Slice) -> None:
    """Put a slice into the table, inside a transaction. Rows that a killed process wrote before are kept."""
    streams: list[int] = []
    seqs: list[int] = []
    all_positions: list[int] = []
    all_crcs: list[int] = []
    for stream, first, positions, crcs in found.pieces:
        count = len(positions)
        streams += [stream] * count
        seqs += range(first, first + count)
        all_positions += positions
        all_crcs += crcs
    # Column by column takes a third of the time of a loop over the rows. Unequal lengths raise.
    values = [0] * (4 * len(seqs))
    values[0::4], values[1::4], values[2::4], values[3::4] = streams, seqs, all_positions, all_crcs
    _insert_all(connection, values)
    if found.mark is not None:
        put_mark(connection, found.mark)


def _insert_all(connection: sqlite3.Connection, values: Sequence[int]) -> None:
    for statement in in_statements("INSERT OR IGNORE INTO seq_index VALUES", values, 4):
        connection.execute(*statement)


def put_mark(connection: sqlite3.Connection, position: int) -> None:
    """Note that the table holds all events up to `position`."""
    put_meta(connection, "indexed", str(position).encode())


def catch_up(connection: sqlite3.Connection, naming: Naming, *, whole: bool = False) -> Links:
    """Add the missing rows to the table, inside a transaction. Each event is checked on the way.

    Returns the link of the newest event of each stream that is what was written. A damaged event gets a
    checksum that does not fit, so that no reader is served it. A tombstone gives no link: nothing proves its
    own. `whole`: there must be one at each position.

    Raises:
        Damaged: there is none at a position, or one whose place in its stream cannot be its own, or is proven
            by nothing: the last of a stream that does not fit the chain may be another stream's.
    """
    mark, end = _mark(connection), _end(connection)
    last = mark
    unproven: dict[int, int] = {}
    rows: list[Row] = []
    links: Links = {}
    for one in walk(connection, mark, naming):
        if whole and one.position != last + 1:
            raise Damaged(last + 1, f"missing, the next event stands at {one.position}")
        if one.is_misplaced:
            raise Damaged(one.position, UNPLACED)
        last = one.position
        if one.fits and not one.is_pruned:
            links[one.stream] = (one.seq, one.link)
            unproven.pop(one.stream, None)
        else:
            links.pop(one.stream, None)
            if not one.is_pruned:
                unproven[one.stream] = one.position
        if one.is_pruned:
            connection.execute("UPDATE pruned SET crc = ? WHERE position = ?", (one.crc, one.position))
        else:
            rows.append(one[:4])
        if len(rows) >= _CHUNK_EVENTS:
            _insert_all(connection, [value for one in sorted(rows) for value in one])
            rows.clear()
            _log.info("index_made", position=one.position, upto=end)
    if unproven:
        raise Damaged(min(unproven.values()), UNPLACED)
    _insert_all(connection, [value for one in sorted(rows) for value in one])
    put_mark(connection, end)
    return links


def look(connection: sqlite3.Connection, into: Unindexed, naming: Naming, *, summed: bool) -> None:
    """Load the events that the table may lack. `summed`: with checksums, which means reading them."""
    mark, end = _mark(connection), _end(connection)
    if summed:
        into.replace((one[:4] for one in walk(connection, mark, naming) if not one.is_pruned), end)
    else:
        sql = "SELECT stream, seq, position FROM event WHERE position > ? ORDER BY position"
        into.replace(connection.execute(sql, (mark,)), end)


def damages(connection: sqlite3.Connection, naming: Naming) -> Iterator[Damaged]:
    """What of the index is not what was written: its rows in their order, then events that it lacks.

    The hash chain, read by position, cannot tell: readers would take a lost row for a pruned event.
    """
    names, found, last, before = naming.streams, 0, (0, 0), 0
    with snapshot(connection):
        mark = _mark(connection)
        for stream, seq, position, crc, *event, body in connection.execute(_ROWS):
            name = names.get(stream, "")
            if event != [stream, seq]:
                yield Damaged(position, f"the index by stream and seq has another event for {seq} of {name}")
                continue
            found += position <= mark
            known = before if last == (stream, seq - 1) else crc_at(connection, stream, seq - 1, name)
            if known is not None and crc_after(known, body) != crc:
                yield Damaged(
                    position,
                    f"in the index by stream and seq, event {seq} of {name} does not fit its checksum",
                )
            last, before = (stream, seq), crc
        if found != connection.execute(_COUNT, (mark,)).fetchone()[0]:
            [lost] = connection.execute(_LOST, (mark,)).fetchone()
            yield Damaged(lost or 0, "it is not in the index by stream and seq")


_ROWS = (
    "SELECT found.stream, found.seq, found.position, found.crc, event.stream, event.seq, body"
    " FROM seq_index AS found LEFT JOIN event ON event.position = found.position"
    " ORDER BY found.stream, found.seq"
)
_COUNT = "SELECT count(*) FROM event WHERE position <= ?"
_LOST = (
    "SELECT min(event.position) FROM event LEFT JOIN seq_index AS found ON found.stream = event.stream"
    " AND found.seq = event.seq WHERE found.position IS NULL AND event.position <= ?"
)


def _mark(connection: sqlite3.Connection) -> int:
    """The position up to which the table is complete. Without a mark it is complete to the end."""
    mark = get_meta(connection, "indexed")
    return _end(connection) if mark is None else int(mark)


def _end(connection: sqlite3.Connection) -> int:
    end: int = connection.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()[0]
    return end


_MANY_EVENTS = 256
_STREAMS_MAX = 131_072
"""Above this many streams, 8 MiB, all checksums are forgotten, and read again when they are needed."""


class StreamSums:
    """The running checksum of each stream, which the index keeps with its events.

    For the writer's transactions.
    """

    def __init__(self, connection: sqlite3.Connection, names: Names, unindexed: Unindexed) -> None:
        self.connection = connection
        self._names = names
        self._unindexed = unindexed
        self._crcs: dict[int, int] = {}
        """By the number of each stream that was written to."""

    def clear(self) -> None:
        """Read them from the index again: what was added may have been rolled back."""
        self._crcs.clear()

    def drop(self, stream: int) -> None:
        """Forget a stream that ended."""
        self._crcs.pop(stream, None)

    def rows(self, events: list[StoredEvent], streams: list[int]) -> list[Row]:
        """The index rows of `events`, each with the running checksum of its stream."""
        crcs = self._crcs
        if len(crcs) > _STREAMS_MAX:  # only here: the index does not have the events of this commit
            crcs.clear()
        looked_up = len(events) <= _MANY_EVENTS
        rows: list[Row] = []
        add = rows.append
        for e, stream in zip(events, streams, strict=True):
            if stream not in crcs:
                if not looked_up:
                    looked_up = True
                    self._look_up(events, streams)
                if stream not in crcs:
                    crcs[stream] = self._crc_before(stream, e)
            crcs[stream] = crc = crc32(b"," + e.body, crcs[stream])  # one call instead of two
            add((stream, e.seq, e.position, crc))
        return rows

    def _look_up(self, events: list[StoredEvent], streams: list[int]) -> None:
        """As `_crc_before` for those in the table, but for all streams in few statements."""
        firsts: dict[int, int] = {}
        for e, stream in zip(events, streams, strict=True):
            if stream not in self._crcs:
                firsts.setdefault(stream, e.seq)
        wanted = [
            (stream, seq - 1)
            for stream, seq in firsts.items()
            if seq > 1 and self._unindexed.last(stream) < seq - 1
        ]
        self._crcs.update(crcs_at(self.connection, wanted))

    def _crc_before(self, stream: int, event: StoredEvent) -> int:
        held = self._unindexed.split(stream, event.seq - 2, event.seq - 1, 1)
        if held.crcs:
            return held.crcs[0]
        crc = crc_at(self.connection, stream, event.seq - 1, event.stream)
        if crc is None:
            raise Corrupt(f"stream {event.stream}", f"the index has no event {event.seq - 1}")
        return crc
