"""What a delivery needs of the log: facts in memory, and runs of events. Pure."""

from typing import Protocol

from huahuo.eventstore.model import Head, Joined, StoredEvent


class LogView(Protocol):
    """The facts about the log that are in memory."""

    @property
    def log_id(self) -> str:
        """See `huahuo.eventstore.port.Log`."""
        ...

    def head(self, stream: str) -> Head:
        """See `huahuo.eventstore.port.Log`."""
        ...


class RunLike(Protocol):
    """A piece of a stream as `huahuo.replay.live.feed.Feed` reads it."""

    @property
    def after(self) -> int:
        """The cursor it was read for."""
        ...

    @property
    def events(self) -> tuple[StoredEvent, ...]:
        """The events that follow `after`."""
        ...

    @property
    def joined(self) -> Joined | None:
        """The bodies of the events, in place of `events`. Given only if `Delivery.joins`."""
        ...

    @property
    def skipped_to(self) -> int:
        """All events up to this seq were compacted away (0: none were)."""
        ...
