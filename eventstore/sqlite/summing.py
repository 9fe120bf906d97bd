"""Reading events with the running checksums of their streams, each checked against the hash chain."""

import sqlite3
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import batched
from itertools import chain as concatenated
from typing import Any, NamedTuple

import msgspec

from huahuo.eventstore.core.chain import GENESIS, link
from huahuo.eventstore.core.sums import crc_after, crc_of_name, unlike
from huahuo.eventstore.sqlite.naming import Naming

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
    before = _link_at(connection, after)
    position = after
    for events in _pages(connection, after):
        rows, end = events, events[-1][0]
        if end - position != len(rows):
            pruned = connection.execute(_PRUNED, (position, end)).fetchall()
            rows = sorted(concatenated(rows, pruned), key=lambda row: row[0])
        crcs = crcs_at(connection, _places_before(rows, known))
        if rows is events and before is not None:
            found = _all_proven(rows, before, known, crcs, naming)
            if found:
                position, before = end, found[-1].link
                yield from found
                continue
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


def _all_proven(
    events: Sequence[tuple[Any, ...]], before: bytes, known: Known, crcs: dict[int, int], naming: Naming
) -> list[Walked]:
    """What `walk` yields of `events`, of which none was pruned, if all are what was written; else nothing.

    A start after a kill reads tens of thousands of events. Column by column takes half the time. `before`:
    the link before the first one. `known` changes only if all are proven.
    """
    positions, streams, seqs, types, *columns, builds, links = zip(*events, strict=True)
    bodies = columns[0]
    try:
        names = {number: naming.streams[number] for number in dict.fromkeys(streams)}
        texts = naming.texts
        facts = zip(
            positions, map(names.__getitem__, streams), seqs, map(texts.__getitem__, types), *columns,
            map(texts.__getitem__, builds), strict=True,
        )  # fmt: skip
        if [*map(link, (before, *links[:-1]), facts)] != [*links]:
            return []
        found: list[Walked] = []
        newest: Known = {}
        for position, stream, seq, body, linked in zip(positions, streams, seqs, bodies, links, strict=True):
            if stream in newest:
                last, crc = newest[stream]
            elif stream in known:
                last, crc = known[stream]
            else:
                last, crc = seq - 1, crcs[stream] if seq > 1 else crc_of_name(names[stream])
            if seq != last + 1:
                return []
            crc = crc_after(crc, body)
            newest[stream] = (seq, crc)
            found.append(Walked(stream, seq, position, crc, False, True, linked))
    except (KeyError, TypeError, ValueError):
        return []
    known.update(newest)
    return found


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


def _link_at(connection: sqlite3.Connection, position: int) -> bytes | None:
    if not position:
        return GENESIS
    for table in ("event", "pruned"):
        sql = f"SELECT chain FROM {table} WHERE position = ?"  # noqa: S608  two constants
        row = connection.execute(sql, (position,)).fetchone()
        if row is not None:
            found: bytes = row[0]
            return found
    return None
