"""The port of the log: what every engine offers and everything above relies on.

One contract test-suite holds the engines to it. All methods are called on the event loop's thread.
A head that is read may be stale on a distributed engine; the head signal may be missed after a
fault; an append's outcome may be unknown (`Unavailable`). Nothing above may assume more.
"""

from asyncio import Future
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from huahuo.eventstore.corruption import Corruption
from huahuo.eventstore.model import (
    Ack,
    Append,
    Appended,
    CommandKey,
    CommandRecord,
    Duplicate,
    Head,
    Joined,
    Keyframe,
    Page,
    RowRange,
    RowsAtOnce,
    Secret,
    StoredEvent,
)

type Listener = Callable[[Sequence[StoredEvent]], None]
"""Called on the loop with newly durable events, in position order, after their appends resolved."""


type RowListener = Callable[[Collection[tuple[str, str]] | None], None]
"""Called on the loop with the (table, part) of changed rows; None: any rows may have changed."""


class Hearer(Protocol):
    """Hears what became of its appends, of all that one commit held at once. Hashable by identity."""

    def heard(self, outcomes: Sequence[tuple[Any, Appended | Duplicate | Exception]]) -> None:
        """(`about`, outcome) of each append of one group, in their order, after the listeners."""
        ...


class Log(Protocol):
    """A durable, ordered, append-only log of streams, with the records that must commit with its events.

    Each value is checked before it is returned: reading a damaged one raises `Corrupt`.
    """

    corruption: Corruption
    """The damage found since the log was opened; `probe` reports it."""

    @property
    def log_id(self) -> str:
        """The life of this log: another id means that numbers may have gone back."""
        ...

    @property
    def incarnation(self) -> str:
        """This life of this node, of several that share the log. Empty where no other node shares it."""
        ...

    def living(self) -> frozenset[str]:
        """The incarnations that may still work, this one included: those heard of in the last seconds.

        A guess: one that is not named may be back, so nothing may depend on it but what is begun next.
        """
        ...

    @property
    def position(self) -> int:
        """The last durable position, 0 if the log is empty."""
        ...

    def head(self, stream: str) -> Head:
        """The oldest and newest durable seq of `stream`; for `log`, the position.

        From memory, except for a stream that ended (`Append.ended`): that is a short look at the disk. A
        damaged one counts as empty, and is noted in `corruption`.
        """
        ...

    def streams(self, prefix: str) -> list[str]:
        """The names of the streams that begin with `prefix` and have an event."""
        ...

    def has_type(self, type_: str) -> bool:
        """Whether a durable event of this type was ever written. From memory."""
        ...

    async def append(self, append: Append) -> Appended | Duplicate:
        """Write everything or nothing, and return when it is durable.

        The command id is checked before the expectations: a known one gives `Duplicate`. Appends
        of one principal commit in the order of their calls.

        Raises:
            CommandMismatch: the command id was used with another fingerprint.
            Conflict: an expectation failed. TooLarge: over a limit. Closed: the log is closed.
            QueueFull: the queue of this principal, or of all principals, is full; nothing was written.
            Unavailable: the outcome is unknown; the log reconciles itself before the next append.
        """
        ...

    def submit(self, append: Append, *, events_bytes: int | None = None) -> Future[Appended | Duplicate]:
        """As `append`, without a task per call. When this returns, the append's place in the order is fixed.

        `events_bytes`: the caller has checked each event against the limits, and their bodies have this many
        bytes.

        Raises as `append`: some errors at once, the others from the future.
        """
        ...

    def submit_for(
        self, hearer: Hearer, about: Any, append: Append, *, events_bytes: int | None = None
    ) -> None:
        """As `submit`, without a future: `hearer` is told of it, with `about`.

        Raises at once what `submit` raises at once; all other errors are the outcome.
        """
        ...

    async def read(
        self, stream: str, after: int, *, events_max: int, bytes_max: int = 1 << 20
    ) -> list[StoredEvent]:
        """Durable events of `stream` with seq > `after`, ascending; at least one if there is one.

        Compacted seqs are absent: the caller sees a hole. `log` reads all streams by position.
        Raises Closed, Unavailable.
        """
        ...

    async def read_pages(self, pages: Sequence[Page]) -> list[list[StoredEvent]]:
        """As `read` for each page, in order, with one job for all of them."""
        ...

    async def read_joined_pages(self, pages: Sequence[Page]) -> list[Joined | None]:
        """For each page, in order: the stored bodies of the durable events of its stream with seq > `after`.

        They are joined to be passed on; at least one if there is one (else None). A page ends before a hole,
        and before the joined bodies would exceed its `bytes_max`; one event alone may. One job reads all
        pages. If one cannot be read, the whole call fails.

        Raises:
            ValueError: a stream is `log`, whose readers need the stream and seq of each event.
            Closed, Unavailable: as `read`.
        """
        ...

    async def links(self, places: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """The links of the hash chain at these (stream, seq), in order, with one job for all of them.

        None where there is no such event, or it was pruned. For `log`, the seq is a position.

        Raises:
            Closed, Unavailable: as `read`.
        """
        ...

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` after each commit; the returned function ends that. Listeners must not raise."""
        ...

    def take(self, counter: str, count: int = 1) -> int:
        """Hand out `count` consecutive numbers of a named counter and return the first (from 1).

        A number that reaches the log in an append is never handed out again, also after a crash.

        Raises:
            NumbersSpent: the log is shared by several nodes, and what this one reserved is used up: await
                `reserve`, then decide again.
        """
        ...

    async def reserve(self, counter: str, count: int = 1) -> None:
        """Wait until `take` can hand out `count` numbers of this counter.

        Raises Closed, Unavailable.
        """
        ...

    async def command(self, key: CommandKey) -> CommandRecord | None:
        """The record of a command, kept at least 7 days."""
        ...

    async def secret(self, owner: str, name: str) -> Secret | None:
        """Unseal a secret; None if it never was or its key was destroyed."""
        ...

    async def secrets(self, owner: str, names: Sequence[str]) -> list[Secret | None]:
        """Several secrets of one owner, by one read. See `secret`."""
        ...

    async def blob(self, blob_id: str) -> bytes | None:
        """The content stored under this id (see `huahuo.eventstore.blobs.blob_id`)."""
        ...

    async def rows(
        self, table: str, part: str, *, before: bytes | None = None, after: bytes | None = None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """(key, value) rows of a projection's part with key < `before`, descending.

        With `after`: those with key > `after`, ascending. Give one of the two, or none.
        """
        ...

    async def row(self, table: str, part: str, key: bytes) -> bytes | None:
        """One row's value."""
        ...

    async def rows_at_once(self, asked: Sequence[RowRange]) -> RowsAtOnce:
        """Several ranges of rows, as one commit left them. Raises as `rows`.

        That commit may be newer than `position`, by what is durable and not told yet.
        """
        ...

    async def parts(self, table: str, *, after: str | None, limit: int) -> list[str]:
        """The names of a table's parts that have rows, in order, behind `after` (None: from the first on)."""
        ...

    def listen_to_rows(self, listener: RowListener) -> Callable[[], None]:
        """Call `listener` after each commit that changed rows of tracked tables (`row_changes`).

        It is told after the listeners of events. The returned function ends that.
        """
        ...

    @property
    def horizons(self) -> Mapping[str, int]:
        """Of each tracked table (`row_changes`), the position up to which changes are not all known."""
        ...

    async def keyframe(
        self, stream: str, fold: str, fingerprint: str, *, at: int | None = None
    ) -> Keyframe | None:
        """The newest keyframe of this fold and fingerprint with seq <= `at`."""
        ...

    async def put_keyframe(self, frame: Keyframe) -> None:
        """Keep a keyframe. If it is lost, a fold takes longer and gives the same state."""
        ...

    async def save_acks(self, acks: Sequence[Ack]) -> None:
        """Store processed positions; a stored one never decreases."""
        ...

    async def acks(
        self, user: str | None = None, *, client: str | None = None, stream: str | None = None
    ) -> list[Ack]:
        """The stored acks, or those of one user, client or stream.

        Raises:
            Corrupt: one of them is not what was written.
        """
        ...

    async def probe(self) -> str | None:
        """None if a small durable write works now, else a sentence that says what does not."""
        ...

    async def close(self) -> None:
        """Commit what waits, stop writing, release the directory. Idempotent."""
        ...
