"""The numbers of streams, types and builds, read as a whole: a row that does not fit keeps the log closed."""

import sqlite3
from collections.abc import Mapping
from itertools import batched

import msgspec

from huahuo.eventstore.core.sums import fitting, must_all_fit
from huahuo.eventstore.sqlite.packed import PackedNames
from huahuo.eventstore.sqlite.page_cache import passing_through

_PACKED_AT_ONCE = 1000


class Naming(msgspec.Struct, frozen=True):
    """The name of each stream, and the texts, by number.

    `firsts`: the oldest kept seq of each stream whose first event is not kept.
    """

    streams: PackedNames
    texts: Mapping[int, str]
    firsts: Mapping[int, int] = {}

    def first(self, number: int) -> int:
        """The oldest kept seq of a stream."""
        return self.firsts.get(number, 1)


def read_naming(connection: sqlite3.Connection) -> Naming:
    """Read both tables. Raises Corrupt for the first row that does not fit its checksum."""
    with passing_through(connection):
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
    return Naming(streams, texts, firsts)
