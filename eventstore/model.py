"""The vocabulary of the log: what goes in, what comes out. Pure data, no engine, no domain.

`stream` is a name such as `user/42`; `seq` counts 1, 2, 3, … in a stream; `position` counts
1, 2, 3, … over the whole log. A `body` is the event as one JSON object in UTF-8, `type` and
`timestamp` included: the bytes stored are the bytes that later go over the wire.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

LOG_STREAM = "log"
"""Reading this name reads every stream in the one global order, `seq` = `position`."""

_NO_EXPECTATION: Mapping[str, int] = MappingProxyType({})


class Secret:
    """A password or token on its way to be sealed. Never shown in repr, str or a traceback."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself. Call it only where it is used."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('[sealed]')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class NewEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A fact about to be appended.

    `entity` names what it is a fact about (`mailbox/17`), `version` the version of its type's schema.
    `command_id`: the command that caused it, where that of its append is not ("": it is).
    """

    stream: str
    type: str
    body: bytes
    version: int = 1
    entity: str = ""
    command_id: str = ""


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """A fact with its place in the log.

    `principal` names the party that caused it (`user/42`, `service`, ``), `command_id` the command,
    `cause` the position of the event that caused it (0: none), `build` the code that wrote it,
    `chain` is the 32-byte hash over it and all events before it.
    """

    position: int
    stream: str
    seq: int
    type: str
    body: bytes
    version: int
    ts_ms: int
    entity: str
    principal: str
    command_id: str
    cause: int
    build: str
    chain: bytes


class Joined(msgspec.Struct, frozen=True, gc=False):
    """The bodies of `count` consecutive events of one stream, from seq `first`, joined by commas."""

    first: int
    count: int
    bodies: bytes


class Page(msgspec.Struct, frozen=True, gc=False):
    """A request for events of `stream` with seq > `after`: at most `events_max`, `bytes_max` bytes joined."""

    stream: str
    after: int
    events_max: int
    bytes_max: int


class Tombstone(msgspec.Struct, frozen=True, gc=False):
    """What stays of a pruned event: its place, and its link of the chain, which covers the whole event."""

    position: int
    stream: str
    seq: int
    chain: bytes


class Head(msgspec.Struct, frozen=True, gc=False):
    """The ends of a stream: `first` = oldest seq still kept, `seq` = newest (0: empty).

    `link` is the link of the hash chain at the newest event. If the opening of the log did not check that
    event, it is empty until `Log.links` reads it or an event is appended: reading it for every stream would
    slow down the opening.
    """

    first: int = 1
    seq: int = 0
    link: bytes = b""


class CommandKey(msgspec.Struct, frozen=True, array_like=True, gc=False, cache_hash=True):
    """Names a command: `user` as `user/42`, `client` = installation or session, `id` = the client's own."""

    user: str
    client: str
    id: str


class CommandRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a command answered, kept so that a repeat gets the same answer.

    `fingerprint` is a keyed hash of its content, `reply` the JSON object answered without `id` and
    `at`, `at_stream` the stream whose last event of this append is the reply's `at` ("" for none),
    `at_seq` its seq (filled in by the log).
    """

    key: CommandKey
    fingerprint: bytes
    reply: bytes
    at_stream: str = ""
    at_seq: int = 0


class RowPut(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Write one row of a named projection: sorted by `key` inside `part`."""

    table: str
    part: str
    key: bytes
    value: bytes


class RowDrop(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Remove a row of a named projection, or (`key` None) a whole part of it.

    `blobs` lists references that the row holds: each is released with it, and none if the row is not there.
    So a row that is dropped twice counts its blobs down once.
    """

    table: str
    part: str
    key: bytes | None = None
    blobs: tuple[str, ...] = ()


class RowRange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first `limit` rows of a part with `low` <= key <= `high`; both "" and None bound nothing."""

    table: str
    part: str
    limit: int
    low: bytes = b""
    high: bytes | None = None
    descending: bool = False


class RowsAtOnce(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The (key, value) rows of several ranges, all after the commit that ends at `position`."""

    position: int
    rows: list[list[tuple[bytes, bytes]]]


class SecretPut(msgspec.Struct, frozen=True):
    """Seal `value` under the data key of `owner` (made if it has none)."""

    owner: str
    name: str
    value: Secret


class Pruning(msgspec.Struct, frozen=True, array_like=True):
    """Events to reduce to tombstones: their positions, and the oldest seq then kept of each stream.

    Only `huahuo.eventstore.care.pruning` makes one: the newest event of a stream may never be in it.
    """

    positions: tuple[int, ...]
    firsts: Mapping[str, int]


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What a user (`user/42`) takes of the disk: bytes of its events and of its blobs."""

    user: str
    events: int
    blobs: int


class Append(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One atomic write: events of any streams, with everything that must change at the same moment.

    `expected` maps a stream to the seq its head must have. `shred` lists owners whose data key is
    destroyed, `drop_secrets` (owner, name) pairs to remove. `blobs` are stored under `blob_id(data)`.
    `ended` lists streams to which nothing more will be written, so nothing of them is kept in memory. They
    can still be read, and appended to, but each time their head is looked up on the disk.
    """

    ts_ms: int
    events: tuple[NewEvent, ...] = ()
    expected: Mapping[str, int] = _NO_EXPECTATION
    command: CommandRecord | None = None
    principal: str = ""
    command_id: str = ""
    cause: int = 0
    rows: tuple[RowPut | RowDrop, ...] = ()
    blobs: tuple[bytes, ...] = ()
    drop_blobs: tuple[str, ...] = ()
    secrets: tuple[SecretPut, ...] = ()
    drop_secrets: tuple[tuple[str, str], ...] = ()
    shred: tuple[str, ...] = ()
    prune: Pruning | None = None
    ended: tuple[str, ...] = ()
    owner: str = ""
    """The user, as `user/42`, whose room its blobs take, and whose blobs it drops."""


class Appended(msgspec.Struct, frozen=True, gc=False):
    """An append that is durable. `position` is the log's position after it, `events` what was written."""

    position: int
    events: tuple[StoredEvent, ...]
    command: CommandRecord | None = None

    def seq_of(self, stream: str) -> int:
        """The last seq this append wrote in `stream`, 0 if none."""
        return next((e.seq for e in reversed(self.events) if e.stream == stream), 0)


class Duplicate(msgspec.Struct, frozen=True):
    """The command had been executed before: nothing was written; `command` holds its first answer."""

    command: CommandRecord


class Keyframe(msgspec.Struct, frozen=True, array_like=True):
    """A fold's state after event `seq` of `stream`, made by the code with this `fingerprint`."""

    stream: str
    fold: str
    fingerprint: str
    seq: int
    state: bytes


class Ack(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The highest seq of `stream` that a client said it processed."""

    user: str
    client: str
    stream: str
    seq: int


def joined_of(rows: Iterable[tuple[int, bytes]], bytes_max: int) -> Joined | None:
    """The bodies of (seq, body) rows up to the first hole, or until they would exceed `bytes_max`.

    Reads no row beyond the first that does not fit. None if there is no row.
    """
    first, size = 0, -1
    bodies: list[bytes] = []
    for seq, body in rows:
        size += len(body) + 1
        if bodies and (size > bytes_max or seq != first + len(bodies)):
            break
        first = first or seq
        bodies.append(body)
    return Joined(first, len(bodies), b",".join(bodies)) if bodies else None
