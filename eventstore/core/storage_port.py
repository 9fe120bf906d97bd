"""The inner port: what a storage engine does, as blocking calls made from jobs of an executor.

The writer (`huahuo.eventstore.core.writer`) decides a group of appends (`huahuo.eventstore.core.draft`)
and hands it to `Store.commit` as data: a `Group` of events and, in order, of everything else that it
changes. `huahuo.eventstore.core.log` reads through `Reads`. An engine never sees the loop, secrets in the
clear, or the waiting callers. Calls of a `Store` never overlap. Calls of `Reads` may overlap with each
other and with calls of the `Store`.

`Loaded` is what a start reads from the disk, `Place` what the log keeps in memory. As entries of
dictionaries, a million streams take 270 MB: three entries, and an object for each name and number. So an
engine may pack the names and heads of streams that rest into a few arrays (`PackedNames`, `PackedHeads`):
some 30 bytes and a name each. A look-up by name costs ten times that of a dictionary, so a stream that is
written to also gets entries (`Place.unpack`), which are found first.

`Carried` is what an append brings besides its plain content: boxes under named keys, and packed blobs
(`huahuo.eventstore.core.seal` makes one). A decision only compares it: a secret that was sealed under a key
which is not its owner's any more is refused.
"""

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate, chain, compress
from operator import ge
from typing import NamedTuple, Protocol

import msgspec

from huahuo.eventstore.core.command_records import AgeNote
from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.model import (
    Ack,
    CommandKey,
    CommandRecord,
    Head,
    Joined,
    Keyframe,
    RowDrop,
    RowPut,
    RowRange,
    RowsAtOnce,
    StoredEvent,
    Tombstone,
    Usage,
)


class _Change(msgspec.Struct, frozen=True, gc=False, tag=True, array_like=True):
    """One thing that a commit does besides its events. Changes apply in order."""


class PutRow(_Change, frozen=True):
    """Write a projection row."""

    row: RowPut


class DropRow(_Change, frozen=True):
    """Remove a projection row or part."""

    row: RowDrop


class PutBlob(_Change, frozen=True):
    """Store a packed blob; if it is there, add a reference to it. `owner`: the user whose room it takes."""

    id: str
    packed: bytes
    owner: str = ""


class DropBlob(_Change, frozen=True):
    """Remove a reference to a blob. Without references the blob is removed. `owner`: see `PutBlob`."""

    id: str
    owner: str = ""


class PutKey(_Change, frozen=True):
    """Store the wrapped data key of an owner."""

    owner: str
    wrapped: bytes


class PutSealed(_Change, frozen=True):
    """Store a sealed secret. It replaces one of the same owner and name."""

    owner: str
    name: str
    sealed: bytes


class DropSealed(_Change, frozen=True):
    """Remove a sealed secret."""

    owner: str
    name: str


class Shred(_Change, frozen=True):
    """Destroy the data key of an owner and every secret sealed under it."""

    owner: str


class Prune(_Change, frozen=True):
    """Reduce events to tombstones. `firsts` maps each stream to the oldest seq that it keeps."""

    positions: tuple[int, ...]
    firsts: dict[str, int]


class EndStream(_Change, frozen=True):
    """Keep nothing of a stream in memory from now on."""

    stream: str


class ForgetUser(_Change, frozen=True):
    """Remove a user's command records, acks and counts, and the keyframes of `streams`."""

    user: str
    streams: tuple[str, ...]


class CountUsage(_Change, frozen=True):
    """Count the bytes of the next events for their users."""


class IndexMore(_Change, frozen=True):
    """Move the places of about this many events into the index that runs behind, if there is one."""

    events: int


class PutCounter(_Change, frozen=True):
    """The next number that a counter will hand out."""

    counter: str
    next: int


class PutCommand(_Change, frozen=True):
    """Remember a command's answer."""

    record: CommandRecord
    at_ms: int


class PutAcks(_Change, frozen=True):
    """Raise acks; lower ones are ignored."""

    acks: tuple[Ack, ...]


class PutKeyframe(_Change, frozen=True):
    """Keep a keyframe, its state packed."""

    frame: Keyframe


class PutMeta(_Change, frozen=True):
    """Write a single value of the log's own."""

    key: str
    value: bytes


class Passed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a replica had once the proposal at `offset` was applied: the ends of its chain and its digests."""

    offset: int
    chain: bytes
    digest: bytes


PASSED_KEPT = 4096
"""A replica knows what it had after each of its newest proposals, at most this many."""


class PutPassed(_Change, frozen=True):
    """How far the ordered log is applied. `shared` is the replicated state that is in no table."""

    shared: bytes
    passed: tuple[Passed, ...]


type Change = (
    PutRow
    | DropRow
    | PutBlob
    | DropBlob
    | PutKey
    | PutSealed
    | DropSealed
    | Shred
    | Prune
    | EndStream
    | IndexMore
    | CountUsage
    | ForgetUser
    | PutCounter
    | PutCommand
    | PutAcks
    | PutKeyframe
    | PutMeta
    | PutPassed
)


class Group(msgspec.Struct, frozen=True, array_like=True):
    """One commit: written completely or not at all. `age_ms` is the clock by which command records age."""

    age_ms: int
    events: list[StoredEvent]
    changes: list[Change]


class KeyUse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The data key of `owner` that secrets were sealed under: a new one (`wrapped`), else named by `name`."""

    owner: str
    name: bytes
    wrapped: bytes = b""


class Carried(msgspec.Struct, frozen=True, array_like=True):
    """The secrets of an append, sealed, with the key of each owner; and its blobs, packed."""

    keys: tuple[KeyUse, ...] = ()
    boxes: tuple[PutSealed, ...] = ()
    blobs: tuple[PutBlob, ...] = ()


NOTHING = Carried()


def key_name(wrapped: bytes) -> bytes:
    """The name of a wrapped key, which tells nothing about it."""
    return blake2b(wrapped, digest_size=16).digest()


UNPACKED_MAX = 65_536
"""At most this many packed streams have their head as an object as well: 20 MB."""


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


class Loaded(msgspec.Struct, frozen=True):
    """The durable state of a log; `counters` maps a counter to its next number.

    `heads` and `packed` have the streams that have not ended. A counter that is not in `counters` begins at
    `first_number`. `age` is the last note of the clock of the command records, None if there is none.
    `shared` and `passed`: what the last `PutPassed` wrote, and the newest `PASSED_KEPT`; empty for a log that
    is no replica.
    """

    log_id: str
    position: int
    chain: bytes
    heads: dict[str, Head]
    counters: dict[str, int]
    first_number: int = 1
    age: AgeNote | None = None
    shared: bytes = b""
    passed: tuple[Passed, ...] = ()
    packed: PackedHeads = NOTHING_PACKED
    horizons: dict[str, int] = {}
    """Of each table whose changes are tracked (`row_changes`), up to where they are not all known."""

    def place(self) -> "Place":
        """Where a log begins that was loaded so."""
        return Place(self.position, self.chain, self.heads, self.packed, dict(self.horizons))


class Place(msgspec.Struct):
    """The state of the log in memory. The writer changes it only on the loop, and while no commit runs.

    A reader may unpack a head and fill in its missing link at any time, because no commit depends on it: a
    head that it takes from `packed` stays there, too.
    """

    position: int
    chain: bytes
    heads: dict[str, Head]
    """Of all streams that are not packed, and of those that were written to lately, or asked for a link."""
    packed: PackedHeads = NOTHING_PACKED
    horizons: dict[str, int] = msgspec.field(default_factory=dict)
    """See `Loaded`."""
    unpacked: OrderedDict[str, None] = msgspec.field(default_factory=OrderedDict)
    """The streams that are in both; what `heads` says is newer."""

    def head(self, stream: str) -> Head | None:
        """The head of a stream that has one and did not end."""
        head = self.heads.get(stream)
        return self.packed.head(stream) if head is None else head

    def unpack(self, stream: str) -> Head | None:
        """As `head`; one that is packed becomes an entry of `heads`."""
        head = self.heads.get(stream)
        if head is None and (head := self.packed.head(stream)) is not None:
            self.heads[stream] = head
            self.unpacked[stream] = None
        return head

    def look(self, stream: str) -> Head | None:
        """As `unpack`, for somebody who may append to it next, as long as there is room."""
        return self.unpack(stream) if len(self.unpacked) < UNPACKED_MAX else self.head(stream)

    def pack(self) -> None:
        """Pack the heads that were unpacked first, where those are many."""
        while len(self.unpacked) > UNPACKED_MAX:
            stream, _ = self.unpacked.popitem(last=False)
            if self.packed.put(stream, self.heads[stream]):
                del self.heads[stream]
            else:
                self.packed.drop(stream)

    def end(self, stream: str) -> None:
        """Forget a stream that ended."""
        self.heads.pop(stream, None)
        self.unpacked.pop(stream, None)
        self.packed.drop(stream)

    def streams(self, prefix: str) -> set[str]:
        """The streams that begin with `prefix`, have an event and did not end."""
        found = {name for name, head in self.heads.items() if head.seq and name.startswith(prefix)}
        return found.union(self.packed.streams(prefix))

    @property
    def count(self) -> int:
        """How many streams have a head here."""
        return len(self.heads) + len(self.packed) - len(self.unpacked)


class Lookup(Protocol):
    """The questions about durable state that arise while a group is decided."""

    def find_commands(self, keys: Sequence[CommandKey], since_ms: int) -> dict[CommandKey, CommandRecord]:
        """The durable records of those of `keys` that have one, not written before `since_ms` of log time.

        Raises Corrupt: one of them is damaged.
        """
        ...

    def wrapped_keys(self, owners: Sequence[str]) -> dict[str, bytes]:
        """The durable wrapped data keys of those of `owners` that have one."""
        ...

    def has_row(self, table: str, part: str, key: bytes) -> bool:
        """Whether a row of a projection is there."""
        ...

    def ended_head(self, stream: str, upto: int) -> Head | None:
        """The head of a stream that ended, when the log ended at position `upto`; None if it did not end."""
        ...


class Store(Lookup, Protocol):
    """The writing half of an engine."""

    def commit(self, group: Group) -> None:
        """Write `group` and return when it is durable. If it raises, the outcome is unknown."""
        ...

    def recover(self) -> Loaded:
        """After a failed commit: find out what is durable. May be called again if it raises."""
        ...

    def is_indexed(self, position: int) -> bool:
        """Whether pruning events up to `position` needs no work on an index first. Called on the loop."""
        ...

    def care_due(self) -> bool:
        """Whether `care` has something to do. Must be cheap: the loop asks after every commit."""
        ...

    def care(self) -> None:
        """Maintain the files. No append depends on it, so it must not raise because the disk is full."""
        ...

    def close(self) -> None:
        """Close the log cleanly and release it."""
        ...


class Span(NamedTuple):
    """Events of `stream` with after < seq <= upto: at most `events_max`, joined in at most `bytes_max`."""

    stream: str
    after: int
    upto: int
    events_max: int
    bytes_max: int


class Reads(Protocol):
    """The reading half. `upto` bounds what is visible: a head that the caller knows to be durable.

    A stored value that does not fit its checksum raises `Corrupt`. Where another proof stands for it, the
    damage is only noted in `corruption`.
    """

    corruption: Corruption

    def events(
        self, stream: str, after: int, upto: int, events_max: int, bytes_max: int
    ) -> list[StoredEvent]:
        """See `Log.read`."""
        ...

    def joined(self, spans: Sequence[Span]) -> list[Joined | None]:
        """See `Log.read_joined_pages`. The stream `log` cannot be asked for."""
        ...

    def ended_head(self, stream: str, upto: int) -> Head | None:
        """See `Lookup`. Short enough to be called on the loop."""
        ...

    def ended_streams(self, prefix: str) -> list[str]:
        """The streams that ended and begin with `prefix`."""
        ...

    def has_type(self, type_: str) -> bool:
        """See `Log.has_type`. Called on the loop."""
        ...

    def tombstones(self, after: int, upto: int, limit: int) -> list[Tombstone]:
        """The pruned events at positions in (after, upto], ascending."""
        ...

    def chains(self, after: int, upto: int) -> list[bytes]:
        """The links of the chain at positions in (after, upto], pruned or not."""
        ...

    def links(self, places: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """See `Log.links`."""
        ...

    def command(self, key: CommandKey) -> CommandRecord | None:
        """See `Log.command`."""
        ...

    def sealed(self, owner: str, name: str) -> tuple[bytes, bytes] | None:
        """(wrapped data key, sealed secret), read in one transaction."""
        ...

    def blob(self, blob_id: str) -> bytes | None:
        """The packed blob."""
        ...

    def rows(
        self, table: str, part: str, before: bytes | None, after: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """See `Log.rows`."""
        ...

    def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """See `Log.row`."""
        ...

    def rows_at_once(self, asked: Sequence[RowRange]) -> RowsAtOnce:
        """See `Log.rows_at_once`."""
        ...

    def parts(self, table: str, after: str | None, limit: int) -> list[str]:
        """See `Log.parts`."""
        ...

    def keyframe(self, stream: str, fold: str, fingerprint: str, at: int) -> Keyframe | None:
        """See `Log.keyframe`; the state is packed."""
        ...

    def counted(self) -> int:
        """The position up to which users' bytes are counted."""
        ...

    def usage(self) -> tuple[int, list[Usage]]:
        """The position up to which users' bytes are counted, and those bytes. An engine may count nothing."""
        ...

    def acks(self, user: str | None, client: str | None, stream: str | None) -> Sequence[Ack]:
        """See `Log.acks`."""
        ...
