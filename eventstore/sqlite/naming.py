"""The numbers of streams, types and builds, read so that one damaged row does not keep a log closed.

Each row of `stream` and `name` is there twice: in the table, and in SQLite's unique index over its text
(`name_salvage`). The events of a stream whose name is lost are refused until somebody asks for the stream by
its name, which the chain then proves (`name_proofs`).
"""

import contextlib
import sqlite3
from collections.abc import Mapping
from itertools import batched

import msgspec

from huahuo.eventstore.core.sums import fitting, must_all_fit
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.sqlite.name_salvage import Salvage
from huahuo.eventstore.sqlite.packed import PackedNames
from huahuo.eventstore.sqlite.page_cache import passing_through
from huahuo.eventstore.sqlite.salvage import FAULTS

_PACKED_AT_ONCE = 1000


class Naming(msgspec.Struct, frozen=True):
    """The name of each stream, and the texts, by number.

    `firsts`: the oldest kept seq of each stream whose first event is not kept.
    """

    streams: Mapping[int, str]
    texts: Mapping[int, str]
    firsts: Mapping[int, int] = {}
    damages: tuple[Corrupt, ...] = ()
    """What did not fit, or was there once only."""
    hurt: frozenset[int] = frozenset()
    """The streams among them."""
    lost: frozenset[int] = frozenset()
    """Streams that have events and no name."""
    wrong: frozenset[str] = frozenset()
    """What stands in their rows, which cannot be the name of a new stream."""
    unproven: frozenset[int] = frozenset()
    """Numbers of texts that events have, of which no copy is proven. `texts` has one of them."""
    is_whole: bool = False
    """Whether all was read from the tables alone, and no page of theirs is known to be damaged."""

    def first(self, number: int) -> int:
        """The oldest kept seq of a stream."""
        return self.firsts.get(number, 1)


def read_naming(connection: sqlite3.Connection, *, whole: bool = True) -> Naming:
    """Read both tables. `whole`: no page of theirs is known to be damaged."""
    if whole:
        with contextlib.suppress(Corrupt, *FAULTS), passing_through(connection):
            return _as_written(connection)
    found = Salvage(connection)
    found.read_texts()
    found.read_streams()
    if found.prove_texts():
        found.read_streams()  # some streams are proven by events, and those by their texts
    return Naming(
        {number: name for number, (name, _first) in found.streams.items()},
        found.texts,
        {number: first for number, (_name, first) in found.streams.items() if first != 1},
        (*found.text_damages, *found.damages),
        frozenset(found.hurt),
        frozenset(found.lost),
        frozenset(found.wrong),
        frozenset(found.unproven),
    )


def _as_written(connection: sqlite3.Connection) -> Naming:
    """Raises Corrupt for the first row that does not fit its checksum."""
    [count] = connection.execute("SELECT count(*) FROM stream").fetchone()
    streams, firsts = PackedNames(count), dict[int, int]()
    rows = connection.execute("SELECT id, name, first, crc FROM stream NOT INDEXED ORDER BY id")
    for some in batched(rows, _PACKED_AT_ONCE):
        numbers, names, those_first, crcs = zip(*some, strict=True)
        must_all_fit("stream", (numbers, names, those_first), crcs)
        streams.add(numbers, names)
        if those_first.count(1) != len(some):
            firsts.update((number, first) for number, _name, first, _crc in some if first != 1)
    texts = dict(fitting("name", connection.execute("SELECT id, text, crc FROM name")))
    return Naming(streams, texts, firsts, is_whole=True)
