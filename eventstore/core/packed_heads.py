"""The names, numbers and heads of streams that rest: a few arrays, some 30 bytes and a name each. Pure.

As entries of dictionaries, a million streams take 270 MB: three entries, and an object for each name and
number. A look-up by name costs ten times that of a dictionary, so a stream that is written to also gets
entries (`Place.unpack`), which are found first.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, compress
from operator import ge

from huahuo.eventstore.model import Head

NOT_HERE = 0xFFFF_FFFF
"""In place of the seq of a head that is not packed."""
_SHORT = 256
_SHORT_HEADS = tuple(Head(1, seq) for seq in range(_SHORT))
"""Shared by all streams that are as long: where there are a million, most are short."""


class PackedNames(Mapping[int, str]):
    """Names of streams by number, and numbers by name. Only `add` changes it: many threads may read."""

    def __init__(self, room: int = 0) -> None:
        """Start empty, with room for `room` names."""
        self._dense = 0
        """The numbers are 1 to this one,"""
        self._others = array("q")
        """and these, ascending."""
        self._text = bytearray()
        """All names, one after the other."""
        self._ends = array("Q", (0,))
        self._mask = (1 << (room + room // 2).bit_length()) - 1
        self._slots = array("I", bytes(4 * (self._mask + 1)))
        """A hash table with open addressing: of each name its place + 1, or 0."""

    def add(self, numbers: Sequence[int], names: Sequence[str]) -> None:
        """Add some, ascending by number, after those that are there. Raises ValueError if they are not."""
        at, slots, mask = len(self), self._slots, self._mask
        if any(map(ge, chain(self._others[-1:] or (self._dense,), numbers), numbers)):
            raise ValueError("the numbers of streams do not ascend")
        if at + len(numbers) > mask:
            raise ValueError("more names than there is room for")
        if numbers and not self._others and numbers[-1] == at + len(numbers):
            self._dense = numbers[-1]
        else:
            self._others.extend(numbers)
        text = "".join(names)
        lengths = map(len, names) if text.isascii() else (len(name.encode()) for name in names)
        self._text += text.encode()
        self._ends.extend(accumulate(lengths, initial=self._ends.pop()))
        for place, hashed in enumerate(map(hash, names), at + 1):
            slot = hashed & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = place

    def only(self, kept: Sequence[int]) -> "PackedNames":
        """Those whose place is not 0 in `kept`."""
        found = PackedNames(len(kept) - kept.count(0))
        numbers = list(compress(self, kept))
        found.add(numbers, [self[number] for number in numbers])
        return found

    def place_of(self, name: str) -> int:
        """The place of a name, -1 if it is not here."""
        slots, mask, text, ends = self._slots, self._mask, self._text, self._ends
        try:
            wanted = name.encode()
        except UnicodeEncodeError:  # a lone surrogate, which no name has
            return -1
        slot = hash(name) & mask
        while place := slots[slot]:
            if text[ends[place - 1] : ends[place]] == wanted:
                return place - 1
            slot = (slot + 1) & mask
        return -1

    def place_at(self, number: int) -> int:
        """The place of a number, -1 if it is not here."""
        dense = self._dense
        if 0 < number <= dense:
            return number - 1
        others = self._others
        place = bisect_left(others, number)
        return dense + place if place < len(others) and others[place] == number else -1

    def number_of(self, name: str) -> int | None:
        """The number of a name, None if it is not here."""
        place = self.place_of(name)
        if place < self._dense:
            return place + 1 if place >= 0 else None
        return self._others[place - self._dense]

    def names(self) -> Iterator[str]:
        """All, by place."""
        text, start = self._text, 0
        for end in self._ends[1:]:
            yield text[start:end].decode()
            start = end

    def starting_with(self, prefix: str) -> Iterator[tuple[int, str]]:
        """Those that begin with `prefix`, with their places. Of the others, none is looked at by itself."""
        text, ends, wanted = self._text, self._ends, prefix.encode()
        place, count = 0, len(self)
        while place < count:
            start, end = ends[place], ends[place + 1]
            if text.startswith(wanted, start, end):
                yield place, text[start:end].decode()
            elif (found := text.find(wanted, start)) < 0:
                return
            elif found > start:  # the first name that begins there or later
                place = bisect_left(ends, found, place + 1)
                continue
            place += 1

    def __getitem__(self, number: int) -> str:
        """The name of a number."""
        place = number - 1 if 0 < number <= self._dense else self.place_at(number)
        if place < 0:
            raise KeyError(number)
        return self._text[self._ends[place] : self._ends[place + 1]].decode()

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.place_at(number) >= 0

    def __iter__(self) -> Iterator[int]:
        return chain(range(1, self._dense + 1), self._others)

    def __len__(self) -> int:
        return self._dense + len(self._others)


class PackedHeads:
    """Heads of streams whose first event is kept: no entries of `Place.heads`, or not as new as those."""

    def __init__(self, names: PackedNames, seqs: "array[int]") -> None:
        """`seqs`: by the place of the name; `NOT_HERE` for a stream whose head is elsewhere."""
        self.names = names
        self._seqs = seqs
        self._count = len(seqs) - seqs.count(NOT_HERE)

    def head(self, stream: str) -> Head | None:
        """The head of `stream`, without its link; None if it is not here."""
        place = self.names.place_of(stream)
        if place < 0 or (seq := self._seqs[place]) == NOT_HERE:
            return None
        return head_at(seq)

    def put(self, stream: str, head: Head) -> bool:
        """Hold `head` for a stream that is here. False if it cannot be packed: then nothing changes."""
        if head.first != 1 or head.seq >= NOT_HERE:
            return False
        self._seqs[self.names.place_of(stream)] = head.seq
        return True

    def drop(self, stream: str) -> None:
        """Forget the head of `stream`, if it is here."""
        place = self.names.place_of(stream)
        if place >= 0 and self._seqs[place] != NOT_HERE:
            self._seqs[place] = NOT_HERE
            self._count -= 1

    def streams(self, prefix: str) -> Iterator[str]:
        """The streams that begin with `prefix` and have an event."""
        seqs = self._seqs
        for place, name in self.names.starting_with(prefix):
            if seqs[place] not in (0, NOT_HERE):
                yield name

    def __len__(self) -> int:
        return self._count


def head_at(seq: int) -> Head:
    """The head of a stream of `seq` events, all kept; its link is not known."""
    return _SHORT_HEADS[seq] if seq < _SHORT else Head(1, seq)


NOTHING_PACKED = PackedHeads(PackedNames(), array("I"))
"""Of an engine that packs none."""
