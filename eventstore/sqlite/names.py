"""The numbers of streams and of repeating texts, in memory."""

import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping

from huahuo.eventstore.sqlite.ended import EndedFilter, select_names
from huahuo.eventstore.sqlite.packed import PackedNames

_UNPACKED_MAX = 65_536
"""At most this many packed streams are entries of `Names.streams` as well: 20 MB."""


class _ByNumber(dict[int, str]):
    """The names of streams; those that are packed are found by `[]` alone."""

    packed: Mapping[int, str]

    def __missing__(self, number: int) -> str:
        return self.packed[number]


class Names:
    """The numbers of streams and of repeating texts. The writer adds to them; readers only look up.

    Streams that ended are not among them, see `huahuo.eventstore.sqlite.ended`; `packed` may have some.
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

    def replace(
        self,
        packed: PackedNames,
        streams: dict[str, int],
        ids: dict[str, int],
        ended: EndedFilter,
    ) -> None:
        """Hold exactly these; a reader at work sees the old ones or the new ones, never none."""
        self.ended = ended
        stream_names = _ByNumber((number, name) for name, number in streams.items())
        stream_names.packed = packed
        self._unpacked = deque()
        self.packed, self.streams, self.stream_names, self.ids = packed, streams, stream_names, ids
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
    known = names.stream_names
    if numbers <= known.keys():
        return known
    found = {number: name for number in numbers if (name := names.name(number)) is not None}
    if len(found) == len(numbers):
        return found
    return found | select_names(connection, numbers - found.keys())
