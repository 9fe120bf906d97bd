"""Reading events from SQLite, and checking them against the hash chain."""

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from huahuo.eventstore.core.chain import GENESIS, relink
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.model import LOG_STREAM, StoredEvent, Tombstone
from huahuo.eventstore.sqlite.names import Names, names_of
from huahuo.eventstore.sqlite.pages import AT_POSITIONS, BY_SEQ, Asked, as_json, is_pruned

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
