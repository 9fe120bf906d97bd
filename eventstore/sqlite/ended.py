"""Streams that ended: neither head nor name is kept in memory, both are looked up when they are needed.

The table `ended` only says what need not be in memory. No answer depends on it: a stream that is not loaded
is found in `stream` and `seq_index`, and an append to it continues at its head.
"""

import sqlite3
from collections.abc import Iterable

import msgspec

from huahuo.eventstore.core.sums import must_fit
from huahuo.eventstore.model import Head
from huahuo.eventstore.sqlite.links import select_positions
from huahuo.eventstore.sqlite.unindexed import Unindexed

_FILTER_BITS = 1 << 24
_SHIFTS = (0, 20, 40)
"""Of the three bits of a name in its 64-bit hash."""

PUT_ENDED = "INSERT OR IGNORE INTO ended SELECT id FROM stream WHERE name = ?"
MAKE_ENDED = "CREATE TABLE IF NOT EXISTS ended (stream INTEGER PRIMARY KEY) STRICT"

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
    while seq and select_positions(connection, unindexed, [(number, seq)])[0] > upto:
        seq -= 1
    return Head(first, seq) if seq else None


def _fitting(rows: Iterable[tuple[int, str, int, int | None]]) -> Iterable[tuple[int, str]]:
    for number, name, first, crc in rows:
        must_fit(crc, "stream", number, name, first)
        yield number, name


def _json(values: Iterable[str | int]) -> str:
    return msgspec.json.encode(list(values)).decode()
