"""Reading a SQLite log: its events, their places and their names.

Every call is one short transaction: a long one would keep the write-ahead log from being emptied.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from huahuo.eventstore.core.page_joining import joined_of
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.storage_port import Span
from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import Corrupt, Damaged
from huahuo.eventstore.model import (
    LOG_STREAM,
    Head,
    Joined,
    StoredEvent,
    Tombstone,
)
from huahuo.eventstore.sqlite.ended import select_ended, select_head, select_number
from huahuo.eventstore.sqlite.events import (
    EVENTS_AT,
    EVENTS_BY_POSITION,
    Found,
    prove_events,
    prove_positions,
    prove_stream,
    select_events,
    select_stream,
    select_tombstones,
)
from huahuo.eventstore.sqlite.links import select_positions
from huahuo.eventstore.sqlite.loading import load
from huahuo.eventstore.sqlite.names import Names
from huahuo.eventstore.sqlite.naming import read_naming
from huahuo.eventstore.sqlite.pages import Asked, as_json, select_joined
from huahuo.eventstore.sqlite.reader_pool import ReaderPool
from huahuo.eventstore.sqlite.row_reads import RowReads
from huahuo.eventstore.sqlite.unindexed import Unindexed

_LINKS_A_STATEMENT = 16
"""Few, because a link is proven by its event, whose body may be large."""


class SqliteReads(RowReads):
    """Implements `storage_port.Reads`; any number of calls at once.

    Each value is checked before it is returned.
    """

    def __init__(self, path: Path, names: Names, unindexed: Unindexed) -> None:
        super().__init__(ReaderPool(path))
        self._names = names
        self._unindexed = unindexed
        self.corruption = Corruption()

    def close(self) -> None:
        """Close all connections. One that a call still has is closed when that ends."""
        self._pool.close()

    def load(self) -> Loaded:
        """The log's end, heads and counters now."""
        with self._pool.connection() as connection:
            connection.execute("BEGIN")
            try:
                naming = read_naming(connection)
                return load(connection, self._names, self._unindexed, naming, summed=False)
            finally:
                connection.execute("COMMIT")

    def events(
        self, stream: str, after: int, upto: int, events_max: int, bytes_max: int
    ) -> list[StoredEvent]:
        """See `Reads`."""
        with self._pool.connection(f"stream {stream}") as connection:
            if stream == LOG_STREAM:
                sql, bounds = EVENTS_BY_POSITION, (after, upto, events_max)
                found = select_events(connection, self._names, sql, bounds, bytes_max)
                prove_positions(connection, after, upto, found.events)
                prove_events(connection, self._names, found)
                return found.events
            number = self._number(connection, stream)
            if not number:
                return []
            while True:
                asked = self._asked(stream, number, after, upto, events_max)
                found = select_stream(connection, self._names, asked, bytes_max)
                prove_stream(connection, self._names, asked, found)
                after = asked.end
                if found.events or after >= upto:
                    return found.events

    def joined(self, spans: Sequence[Span]) -> list[Joined | None]:
        """See `Reads`."""
        place = f"stream {spans[0].stream}" if len(spans) == 1 else "several streams"
        with self._pool.connection(place) as connection:
            asked = [
                (self._asked(name, self._number(connection, name), after, upto, limit), bytes_max)
                for name, after, upto, limit, bytes_max in spans
            ]
            found = select_joined(connection, asked)
        return [
            self._joined_one_by_one(span, page) if joined is None else joined
            for joined, span, (page, _) in zip(found, spans, asked, strict=True)
        ]

    def _joined_one_by_one(self, span: Span, page: Asked) -> Joined | None:
        """Prove a page by the hash chain, where its checksums do not fit or are not known."""
        events = self.events(*span)
        joined = joined_of(((event.seq, event.body) for event in events), span.bytes_max)
        if joined is not None and (page.crcs or not page.positions):
            self.corruption.note(
                Corrupt(
                    f"index of stream {span.stream}", f"the checksums behind event {span.after} do not fit"
                )
            )
        return joined

    def ended_head(self, stream: str, upto: int) -> Head | None:
        """See `Reads`."""
        names = self._names
        if not names.ended.may_hold(stream):
            return None
        with self._pool.connection(f"stream {stream}") as connection:
            number = self._number(connection, stream)
            return select_head(connection, self._unindexed, number, upto) if number else None

    def ended_streams(self, prefix: str) -> list[str]:
        """See `Reads`."""
        with self._pool.connection() as connection:
            return select_ended(connection, prefix)

    def has_type(self, type_: str) -> bool:
        """See `Reads`. Builds are among these texts too: such a type would take nothing more either."""
        return type_ in self._names.ids

    def tombstones(self, after: int, upto: int, limit: int) -> list[Tombstone]:
        """See `Reads`."""
        with self._pool.connection() as connection:
            return select_tombstones(connection, self._names, after, upto, limit)

    def chains(self, after: int, upto: int) -> list[bytes]:
        """See `Reads`."""
        sql = "SELECT position, chain FROM {} WHERE position > ? AND position <= ? ORDER BY position"
        with self._pool.connection() as connection:
            connection.execute("BEGIN")  # one snapshot for both tables
            try:
                kept = connection.execute(sql.format("event"), (after, upto)).fetchall()
                pruned = connection.execute(sql.format("pruned"), (after, upto)).fetchall()
            finally:
                connection.execute("COMMIT")
        links = sorted(kept + pruned) if pruned else kept
        for position, link in enumerate(links, after + 1):
            if link[0] != position:
                raise Damaged(position, "missing")
        return [chain for _position, chain in links]

    def links(self, places: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """See `Reads`. A damaged one is noted, and counts as unknown."""
        with self._pool.connection() as connection:
            by_seq = [(self._number(connection, stream), seq) for stream, seq in places]
            positions = select_positions(connection, self._unindexed, by_seq)
            for n, (stream, seq) in enumerate(places):
                if stream == LOG_STREAM:
                    positions[n] = seq
            events: dict[int, StoredEvent] = {}
            for start in range(0, len(positions), _LINKS_A_STATEMENT):
                part = positions[start : start + _LINKS_A_STATEMENT]
                events.update((event.position, event) for event in self._proven_at(connection, part))
        links: list[bytes | None] = []
        for position, place in zip(positions, places, strict=True):
            event = events.get(position)
            fits = event is not None and place in ((event.stream, event.seq), (LOG_STREAM, position))
            links.append(event.chain if event is not None and fits else None)
        return links

    def _proven_at(self, connection: sqlite3.Connection, positions: Sequence[int]) -> list[StoredEvent]:
        """The events at `positions` that fit the chain."""
        at = (as_json(positions), len(positions))
        found = select_events(connection, self._names, EVENTS_AT, at, 1 << 62)
        try:
            prove_events(connection, self._names, found)
        except Corrupt as error:
            self.corruption.note(error)
            return [event for event in found.events if self._fits(connection, event)]
        return found.events

    def _fits(self, connection: sqlite3.Connection, event: StoredEvent) -> bool:
        try:
            prove_events(connection, self._names, Found([event], [None]))
        except Corrupt:
            return False
        return True

    def _number(self, connection: sqlite3.Connection, stream: str) -> int:
        """The number of `stream`, 0 if it has none."""
        number = self._names.number(stream)
        if number is None and self._names.ended.may_hold(stream):
            number = select_number(connection, stream)
        return number or 0

    def _asked(self, name: str, stream: int, after: int, upto: int, limit: int) -> Asked:
        """Call it before the query: an event that leaves `Unindexed` after this is in the table by then."""
        indexed, positions, crcs, before = self._unindexed.split(stream, after, upto, limit)
        return Asked(name, stream, after, indexed, limit, positions, crcs, before)
