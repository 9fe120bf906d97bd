"""The inner port: what a storage engine does, as blocking calls made from jobs of an executor.

The writer (`huahuo.eventstore.core.writer`) decides a group of appends (`huahuo.eventstore.core.draft`)
and hands it to `Store.commit` as data: a `Group` of events and, in order, of everything else that it
changes. `huahuo.eventstore.core.log` reads through `Reads`. An engine never sees the loop, secrets in the
clear, or the waiting callers. Calls of a `Store` never overlap. Calls of `Reads` may overlap with each
other and with calls of the `Store`.

`Loaded` is what a start reads from the disk, `Place` what the log keeps in memory; an engine may keep the
heads of streams that rest packed (`PackedHeads`), without an object for each. `Carried` is what an append
brings besides its plain content: boxes under named keys, and packed blobs (`huahuo.eventstore.core.seal`
makes one). A decision only compares it: a secret that was sealed under a key which is not its owner's any
more is refused.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

import msgspec

from huahuo.eventstore.core.command_records import AgeNote
from huahuo.eventstore.core.packed_heads import NOTHING_PACKED, PackedHeads
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

    def place(self) -> "Place":
        """Where a log begins that was loaded so."""
        return Place(self.position, self.chain, self.heads, self.packed)


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

    A stored value that does not fit its checksum raises `Corrupt`. Damage that the engine could repair while
    reading is only noted in `corruption`.
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
