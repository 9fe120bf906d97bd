"""The numbers of streams and of repeating texts: in memory, packed, or looked up in their tables.

Streams that rest are packed (`huahuo.eventstore.core.storage_port`); one that is written to also gets entries
(`Names.unpack`), which are found first.

Of streams that ended, neither head nor name is in memory. The table `ended` only says what need not be
there. No answer depends on it: a stream that is not loaded is found in `stream` and `seq_index`, and an
append to it continues at its head. `Naming` is all numbers, read as a whole: a row that does not fit keeps
the log closed.
"""

import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import batched

import msgspec

from huahuo.eventstore.core.storage_port import PackedNames
from huahuo.eventstore.model import Head
from huahuo.eventstore.sqlite.connections import passing_through
from huahuo.eventstore.sqlite.schema import fitting, must_all_fit, must_fit
from huahuo.eventstore.sqlite.unindexed import Unindexed

_FILTER_BITS = 1 << 24
_SHIFTS = (0, 20, 40)
"""Of the three bits of a name in its 64-bit hash."""

PUT_ENDED = "INSERT OR IGNORE INTO ended SELECT id FROM stream WHERE name = ?"
MAKE_ENDED = "CREATE TABLE IF NOT EXISTS ended (stream INTEGER PRIMARY KEY) STRICT"

_POSITION = "SELECT position FROM seq_index WHERE stream = ? AND seq = ?"
_END = "SELECT max(seq) FROM seq_index WHERE stream = ?"
_FIRST = "SELECT first FROM stream WHERE id = ?"
_BY_NUMBERS = "SELECT id, name, first, crc FROM stream WHERE id IN (SELECT value FROM json_each(?))"
_BY_NAMES = "SELECT id, name, first, crc FROM stream WHERE name IN (SELECT value FROM json_each(?))"
_WITH_PREFIX = (
    "SELECT id, name, first, crc FROM stream"
    " WHERE id IN (SELECT stream FROM ended) AND substr(name, 1, ?) = ?"
)


class EndedFilter:
    """Which streams may have ended: 2 MiB for any number of them, and never no for one that did.

    So a new name costs no look at the disk; with a million ended streams, one new name in 200 does.
    """

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, stream: str) -> None:
        """Note that `stream` ended."""
        if not self._bits:
            self._bits = bytearray(_FILTER_BITS >> 3)
        hashed = hash(stream)
        for shift in _SHIFTS:
            bit = (hashed >> shift) % _FILTER_BITS
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def may_hold(self, stream: str) -> bool:
        """Whether `stream` may have ended."""
        bits = self._bits
        if not bits:
            return False
        hashed = hash(stream)
        for shift in _SHIFTS:
            bit = (hashed >> shift) % _FILTER_BITS
            if not bits[bit >> 3] & 1 << (bit & 7):
                return False
        return True


def select_number(connection: sqlite3.Connection, stream: str) -> int | None:
    """The number of `stream`. Raises Corrupt if its row does not fit its checksum."""
    return select_numbers(connection, (stream,)).get(stream)


def select_numbers(connection: sqlite3.Connection, streams: Iterable[str]) -> dict[str, int]:
    """The numbers of those of `streams` that have one. Raises as `select_number`."""
    rows = connection.execute(_BY_NAMES, (_json(streams),))
    return {name: number for number, name in _fitting(rows)}


def select_names(connection: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, str]:
    """The names of the streams with these numbers. Raises as `select_number`."""
    return dict(_fitting(connection.execute(_BY_NUMBERS, (_json(numbers),))))


def select_ended(connection: sqlite3.Connection, prefix: str) -> list[str]:
    """The ended streams that begin with `prefix`. Raises as `select_number`."""
    return [name for _, name in _fitting(connection.execute(_WITH_PREFIX, (len(prefix), prefix)))]


def select_head(connection: sqlite3.Connection, unindexed: Unindexed, number: int, upto: int) -> Head | None:
    """The head of stream `number` when the log ended at position `upto`."""
    held = unindexed.last(number)  # before the query of the table, see `Unindexed`
    [seq] = connection.execute(_END, (number,)).fetchone()
    [first] = connection.execute(_FIRST, (number,)).fetchone()
    seq = held or (first - 1 if seq is None else seq)
    # A commit that nobody heard of yet may have added to it.
    while seq and _position(connection, unindexed, number, seq) > upto:
        seq -= 1
    return Head(first, seq) if seq else None


def _position(connection: sqlite3.Connection, unindexed: Unindexed, stream: int, seq: int) -> int:
    """The position of an event, 0 if the index does not have it."""
    held = unindexed.position(stream, seq)  # before the query of the table, see `Unindexed`
    row = None if held else connection.execute(_POSITION, (stream, seq)).fetchone()
    return held if row is None else int(row[0])


def _fitting(rows: Iterable[tuple[int, str, int, int]]) -> Iterable[tuple[int, str]]:
    for number, name, first, crc in rows:
        must_fit(crc, "stream", number, name, first)
        yield number, name


def _json(values: Iterable[str | int]) -> str:
    return msgspec.json.encode(list(values)).decode()


_UNPACKED_MAX = 65_536
"""At most this many packed streams are entries of `Names.streams` as well: 20 MB."""


class _ByNumber(dict[int, str]):
    """The names of streams; those that are packed are found by `[]` alone."""

    packed: Mapping[int, str]

    def __missing__(self, number: int) -> str:
        return self.packed[number]


class Names:
    """The numbers of streams and of repeating texts. The writer adds to them; readers only look up.

    Streams that ended are not among them, see `huahuo.eventstore.sqlite.names`; `packed` may have some.
    """

    def __init__(self) -> None:
        self.packed = PackedNames()
        self.streams: dict[str, int] = {}
        """Of all streams that are not packed, and of those that were written to lately."""
        self.stream_names: dict[int, str] = {}
        self._unpacked: deque[tuple[str, int]] = deque()
        self.named = 0
        """How many streams were added."""
        self.ids: dict[str, int] = {}
        self.texts: dict[int, str] = {}
        self.ended = EndedFilter()

    def replace(self, packed: PackedNames, ids: dict[str, int], ended: EndedFilter) -> None:
        """Hold exactly these; a reader at work sees the old ones or the new ones, never none."""
        self.ended = ended
        stream_names = _ByNumber()
        stream_names.packed = packed
        self._unpacked = deque()
        self.packed, self.streams, self.stream_names, self.ids = packed, {}, stream_names, ids
        self.texts = {number: text for text, number in ids.items()}

    def number(self, stream: str) -> int | None:
        """The number of `stream`, None if it has none, or if it ended and must be looked up."""
        number = self.streams.get(stream)
        return self.packed.number_of(stream) if number is None else number

    def name(self, number: int) -> str | None:
        """The name of a stream, None as for `number`."""
        name = self.stream_names.get(number)
        return self.packed.get(number) if name is None else name

    def add(self, stream: str, number: int) -> None:
        """`stream` is new, or goes on after its end."""
        self.streams[stream] = number
        self.stream_names[number] = stream
        self.named += 1

    def unpack(self, streams: Iterable[str]) -> None:
        """Those of `streams` that are packed become entries of `streams`."""
        for stream in streams:
            number = self.packed.number_of(stream)
            if number is not None and stream not in self.streams:
                self.stream_names[number] = stream
                self.streams[stream] = number
                self._unpacked.append((stream, number))

    def pack(self) -> None:
        """Forget the entries of `unpack` that are oldest, where those are many."""
        while len(self._unpacked) > _UNPACKED_MAX:
            stream, number = self._unpacked.popleft()
            self.streams.pop(stream, None)
            self.stream_names.pop(number, None)

    def end(self, stream: str) -> int | None:
        """Forget `stream`, which ended; returns its number. Readers now find it on the disk."""
        self.ended.add(stream)
        number = self.number(stream)
        if number is not None:
            self.streams.pop(stream, None)
            self.stream_names.pop(number, None)
        return number


def names_of(connection: sqlite3.Connection, names: Names, numbers: set[int]) -> Mapping[int, str]:
    """The names of the streams with these numbers, from the disk for those that ended."""
    found = {number: name for number in numbers if (name := names.name(number)) is not None}
    return found | select_names(connection, ended) if (ended := numbers - found.keys()) else found


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
