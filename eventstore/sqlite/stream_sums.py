"""The running checksum of each stream, which the index keeps with its events."""

import sqlite3
from zlib import crc32

from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.sqlite.names import Names
from huahuo.eventstore.sqlite.summing import crc_at, crcs_at
from huahuo.eventstore.sqlite.unindexed import Row, Unindexed

_MANY_EVENTS = 256
_STREAMS_MAX = 131_072
"""Above this many streams, 8 MiB, all checksums are forgotten, and read again when they are needed."""


class StreamSums:
    """See the module. For the writer's transactions."""

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
