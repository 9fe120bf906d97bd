"""Proving the newest events of a log whose writer was killed, behind the opening.

Their checksums were in the killed process's memory (`huahuo.eventstore.sqlite.seq_index`). To make them
again, each event must be read and held against the hash chain: about half a second for 65,536 events. So a
log opens without them. Then they are proven in small steps, one with each commit that asks for it. Before
that, a reader proves by the chain what it reads, and a stream takes new events once its own are proven.

The thread of the writer does all of it. It reads by a connection of its own, since SQLite's next write
fails on one that met a damaged page.
"""

import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.errors import MISREAD, Corrupt
from huahuo.eventstore.executor import give_way
from huahuo.eventstore.model import Head
from huahuo.eventstore.sqlite.faults import translated
from huahuo.eventstore.sqlite.naming import Naming
from huahuo.eventstore.sqlite.schema import connect_reader
from huahuo.eventstore.sqlite.seq_index import Unindexed
from huahuo.eventstore.sqlite.summing import Walked, walk

STRETCH_EVENTS = 64
"""After this many the interpreter lock is offered to other threads."""
NEWEST = "the newest events"


class Proof:
    """The proof of the events in `unindexed`, which stand after position `after`, up to `upto`."""

    def __init__(
        self, path: Path, unindexed: Unindexed, naming: Naming, corruption: Corruption, after: int,
        upto: int, heads: dict[str, Head],
    ) -> None:  # fmt: skip
        self._path = path
        self._unindexed = unindexed
        self._naming = naming
        self._corruption = corruption
        self._after = after
        self._upto = upto
        self._heads = heads
        """They get the links of the newest events that are proven. Nothing else changes them meanwhile."""
        self._connection: sqlite3.Connection | None = None
        self._walk: Iterator[Walked] | None = None
        self.failed = ""
        """Why it cannot go on: a damaged page. The events behind it stay unproven."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to prove."""
        return not self._unindexed.unsummed

    def step(self, events: int) -> None:
        """Prove about this many more."""
        while events > 0 and self._unindexed.unsummed and not self.failed:
            try:
                self._prove(min(events, STRETCH_EVENTS))
            except (sqlite3.Error, *MISREAD) as error:
                damage = translated(error) if isinstance(error, sqlite3.Error) else error
                self.failed = f"they cannot be read: {damage}"
                self._corruption.note(Corrupt(NEWEST, self.failed))
            events -= STRETCH_EVENTS
            give_way()

    def finish(self) -> None:
        """Prove what is left."""
        self.step(self._unindexed.count)

    def must_reach(self, stream: str, number: int) -> None:
        """Go on until the events of `stream` are proven: its next event stands on them.

        Raises:
            Corrupt: they cannot be.
        """
        while not self._unindexed.is_summed(number):
            if self.failed:
                raise Corrupt(f"stream {stream}", f"its newest events are not proven; {self.failed}")
            self.step(STRETCH_EVENTS)

    def close(self) -> None:
        """Close the files. Idempotent."""
        self._walk = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _prove(self, events: int) -> None:
        if self._walk is None:
            self._connection = connect_reader(self._path)
            self._walk = walk(self._connection, self._after, self._naming)
        names = self._naming.streams
        part = [one for one in islice(self._walk, events) if one.position <= self._upto]
        if not part:
            raise ValueError("some of them are missing")
        for one in part:
            self._unindexed.note_crc(one.stream, one.position, one.crc)
            stream = names.get(one.stream, ("", 0))[0]
            if not one.fits:
                place = f"stream {stream}" if stream else "an event"
                reason = f"event {one.seq} does not fit the hash chain"
                self._corruption.note(Corrupt(place, reason, position=one.position))
                continue
            head = self._heads.get(stream)
            if head is not None and head.seq == one.seq and not head.link:
                self._heads[stream] = Head(head.first, head.seq, one.link)
