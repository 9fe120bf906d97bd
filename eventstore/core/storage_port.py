"""The inner port: what a storage engine does, as blocking calls made from jobs of an executor.

`huahuo.eventstore.core.writer` decides a group of appends (`huahuo.eventstore.core.draft`) and hands it to
`Store.commit` as data; `huahuo.eventstore.core.log` reads through `Reads`. An engine never sees the loop,
secrets in the clear, or the waiting callers. Calls of a `Store` never overlap. Calls of `Reads` may overlap
with each other and with calls of the `Store`.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from huahuo.eventstore.core.changes import Group
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.model import (
    Ack,
    CommandKey,
    CommandRecord,
    Head,
    Joined,
    Keyframe,
    StoredEvent,
    Tombstone,
    Usage,
)


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
