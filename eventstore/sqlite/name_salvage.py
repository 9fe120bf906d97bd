"""What the two copies of the names of streams, types and builds tell, where a row is damaged.

The row's checksum, or the hash chain over an event of the stream, decides which of two texts was written.
Names stand in other rows, too. A number to which none of them belongs is lost.
"""

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator

from huahuo.eventstore.core.sums import Value, row_crc
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.sqlite.name_proofs import EVENTS_ASKED, INDEXED, PLACES, first_of, holds, proves
from huahuo.eventstore.sqlite.salvage import FAULTS, from_both_ends, text_in, until_fault

_LOST = "its name is lost in both copies"
_UNPROVEN = "neither of its two copies is what was written"
_NUMBERS = (
    "WITH RECURSIVE used(stream) AS (SELECT min(stream) FROM {0} UNION ALL"
    " SELECT (SELECT min(stream) FROM {0} WHERE stream > used.stream) FROM used WHERE stream IS NOT NULL)"
    " SELECT stream FROM used WHERE stream IS NOT NULL"
)
"""Every number in an index over (stream, seq), by one seek each."""
_HAVE_TEXTS = (
    "SELECT position, stream, type, build FROM event WHERE type IN ({0}) OR build IN ({0}) ORDER BY position"
)
_ELSEWHERE = (
    "SELECT DISTINCT stream FROM keyframe",
    "SELECT DISTINCT stream FROM ack",
    "SELECT DISTINCT at_stream FROM command",
)
_NEWEST = f"SELECT DISTINCT stream FROM event WHERE position > {INDEXED}"  # noqa: S608  constants


class Salvage:
    """Reads both copies, and decides. Damage is noted in `damages`, never raised."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.streams: dict[int, tuple[str, int]] = {}
        self.texts: dict[int, str] = {}
        self.text_damages: list[Corrupt] = []
        self.damages: list[Corrupt] = []
        """Those of streams."""
        self.unproven: set[int] = set()
        self._undecided: dict[int, list[str]] = {}
        """Of a text, the copies, where the checksum fits none of them."""
        self.hurt: set[int] = set()
        self.lost: set[int] = set()
        self.wrong: set[str] = set()
        self._connection = connection

    def read_texts(self) -> None:
        """Read `name`. Where no copy fits the checksum, `prove_texts` decides."""
        table = self._table("SELECT id, text, crc FROM name")
        index = self._index("name", "text")
        for number in sorted(table.keys() | index.keys()):
            text, crc = table.get(number, (None, None))
            told = [one for one in dict.fromkeys((text, index.get(number))) if isinstance(one, str)]
            fitting = next((one for one in told if _fits(crc, "name", number, one)), None)
            self.texts[number] = chosen = fitting or (told[-1] if told else str(text))
            if fitting is None:
                self._undecided[number] = told
            elif fitting != text:
                self._note_text(number, chosen)

    def prove_texts(self) -> bool:
        """Decide by the chain over events what the checksums left open. Whether a text is another one now."""
        places, changed = self._having(self._undecided.keys()), False
        for number, told in self._undecided.items():
            before = self.texts[number]
            proven = next((one for one in told if self._text_holds(number, one, places[number])), None)
            self.texts[number] = proven or before
            changed |= self.texts[number] != before
            if proven is None and places[number]:
                self.unproven.add(number)
                self.text_damages.append(Corrupt(_text_place(number), _UNPROVEN))
            else:
                self._note_text(number, self.texts[number])
        return changed

    def _having(self, numbers: Collection[int]) -> dict[int, list[tuple[int, int]]]:
        """(position, stream) of a few events with each text, by one walk that ends when all are found."""
        found: dict[int, list[tuple[int, int]]] = {number: [] for number in numbers}
        if not found:
            return found
        sql = _HAVE_TEXTS.format(", ".join(map(str, found)))
        with contextlib.suppress(*FAULTS):
            for position, stream, *texts in self._connection.execute(sql):
                for number in found.keys() & set(texts):
                    if len(found[number]) < EVENTS_ASKED:
                        found[number].append((position, stream))
                if all(len(places) >= EVENTS_ASKED for places in found.values()):
                    break
        return found

    def _text_holds(self, number: int, text: str, places: Iterable[tuple[int, int]]) -> bool:
        self.texts[number] = text
        for position, stream in places:
            name, _first = self.streams.get(stream, ("", 0))
            with contextlib.suppress(*FAULTS):
                if name and holds(self._connection, self.texts, position, name):
                    return True
        return False

    def _note_text(self, number: int, text: str) -> None:
        self.text_damages.append(_misfit(_text_place(number), text))

    def read_streams(self) -> None:
        """Read `stream`."""
        for found in (self.streams, self.damages, self.hurt, self.wrong):
            found.clear()
        table = self._table("SELECT id, name, first, crc FROM stream")
        index = self._index("stream", "name")
        unnamed: set[int] = set()
        for number in sorted(table.keys() | index.keys()):
            name, first, crc = table.get(number, (None, None, None))
            if isinstance(name, str) and isinstance(first, int) and _fits(crc, "stream", number, name, first):
                self.streams[number] = (name, first)
                continue
            chosen = self._stream(number, name, first, crc, index.get(number))
            if chosen is None:
                unnamed.add(number)
                self.wrong.update(one for one in (name, index.get(number)) if isinstance(one, str))
            else:
                self._mend(number, *chosen)
        self.lost = unnamed & (used := self._used()) | (used - self.streams.keys())
        if self.lost:
            self._search()
        for number in sorted(self.lost):
            self.damages.append(Corrupt(f"name of stream number {number}", _LOST))

    def _mend(self, number: int, name: str, first: int) -> None:
        self.streams[number] = (name, first)
        self.hurt.add(number)
        self._note(f"name of stream number {number}", name)

    def _search(self) -> None:
        """Look for the names that are lost where else names of streams stand."""
        known = {name for name, _first in self.streams.values()}
        for sql in _ELSEWHERE:
            for name in {text_in(name) for (name,) in until_fault(self._connection, sql)[0]} - known:
                for number in tuple(self.lost):
                    if isinstance(name, str) and proves(self._connection, self.texts, number, name):
                        self._mend(number, name, first_of(self._connection, number))
                        self.lost.discard(number)

    def _stream(
        self, number: int, name: object, first: object, crc: object, indexed: str | None
    ) -> tuple[str, int] | None:
        """The name and the first seq of a stream whose row does not fit; None if they cannot be proven."""
        kept = first_of(self._connection, number)
        told = (indexed, name, *self._entities(number))
        names = [one for one in dict.fromkeys(told) if isinstance(one, str)]
        for one in names:
            for at in (first, kept):
                if isinstance(at, int) and _fits(crc, "stream", number, one, at):
                    return one, at
        proven = next((one for one in names if proves(self._connection, self.texts, number, one)), None)
        return None if proven is None else (proven, kept)

    def _entities(self, number: int) -> Iterator[object]:
        """Most streams have the name of the entity that writes them, and each event tells its entity."""
        for sql in PLACES:
            for (position,) in until_fault(self._connection, sql, (number, 1))[0]:
                asked = "SELECT entity FROM event WHERE position = ?"
                yield from (text_in(one) for (one,) in until_fault(self._connection, asked, (position,))[0])

    def _used(self) -> set[int]:
        """The numbers of all streams that have events, as far as the index can be read."""
        used: set[int] = set()
        for sql in (_NUMBERS.format("seq_index"), _NUMBERS.format("pruned"), _NEWEST):
            numbers, _ = until_fault(self._connection, sql)
            used.update(number for (number,) in numbers if isinstance(number, int))
        return used

    def _table(self, sql: str) -> dict[int, tuple[object, ...]]:
        return {
            number: (text_in(value), *rest)
            for number, value, *rest in from_both_ends(self._connection, f"{sql} NOT INDEXED", "id")
        }

    def _index(self, table: str, column: str) -> dict[int, str]:
        """The other copy, from the index alone."""
        sql = f"SELECT id, {column} FROM {table} INDEXED BY {table}_unique"  # noqa: S608  constants
        rows = from_both_ends(self._connection, sql, column)
        return {number: text for number, value in rows if isinstance(text := text_in(value), str)}

    def _note(self, place: str, name: str) -> None:
        self.damages.append(_misfit(place, name))


def is_lost(damage: Corrupt) -> bool:
    """Whether it is a name that no copy tells."""
    return damage.reason in (_LOST, _UNPROVEN)


def _misfit(place: str, name: str) -> Corrupt:
    return Corrupt(place, f"its row is not what was written; its other copy says {name!r}")


def _text_place(number: int) -> str:
    return f"name of a type or build, number {number}"


def _fits(crc: object, table: str, *values: Value) -> bool:
    return crc == row_crc(table, *values)
