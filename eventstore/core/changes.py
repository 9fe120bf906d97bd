"""What one commit writes, as data: its events and, in order, everything else that it changes."""

import msgspec

from huahuo.eventstore.core.ages import AgeNote
from huahuo.eventstore.model import Ack, CommandRecord, Keyframe, RowDrop, RowPut, StoredEvent


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


class PutAge(_Change, frozen=True):
    """Note the clock of the command records (`huahuo.eventstore.core.ages`)."""

    age: AgeNote


class Touch(_Change, frozen=True):
    """Write the time `at_ms` and `pad_bytes` of padding: a real write, for a probe."""

    at_ms: int
    pad_bytes: int = 0


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
    | PutAge
    | PutPassed
    | Touch
)


class Group(msgspec.Struct, frozen=True, array_like=True):
    """One commit: written completely or not at all. `age_ms` is the clock by which command records age."""

    age_ms: int
    events: list[StoredEvent]
    changes: list[Change]
