"""A state folded from one stream, and changed in commits that expect its head. A thin shell.

It works over the log of a running service, and over one that a command has opened. Two writers never decide
on the same state.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from huahuo.eventstore.errors import Conflict, NumbersSpent
from huahuo.eventstore.model import Append, Appended, Duplicate, StoredEvent
from huahuo.eventstore.port import Log

_PAGE_EVENTS: Final = 500
_ATTEMPTS_MAX: Final = 8


class Folded(Protocol):
    """The state."""

    def apply(self, event: StoredEvent) -> object:
        """Fold in the next event of the stream."""
        ...


class Ledger[S: Folded]:
    """See the module. Exceptions of the log pass through. All methods belong to the loop's thread."""

    def __init__(self, log: Log, stream: str, state: S) -> None:
        self.state = state
        self.seq = 0
        """The last event that was folded in."""
        self._log = log
        self._stream = stream
        self._unlisten: Callable[[], None] | None = None

    async def start(self) -> None:
        """Read the state, and follow the log from here on."""
        self._unlisten = self._log.listen(self._heard)
        await self.catch_up()

    def stop(self) -> None:
        """Stop following. Idempotent."""
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None

    @property
    def behind(self) -> bool:
        """Whether the log holds events that are not folded in yet. Needs no read."""
        return self.seq < self._log.head(self._stream).seq

    async def catch_up(self) -> None:
        """Read what is missing."""
        while self.behind:
            events = await self._log.read(self._stream, self.seq, events_max=_PAGE_EVENTS)
            if not events:
                return
            self._fold(events)

    async def change(self, change: Callable[[S], Append | None]) -> Appended | Duplicate | None:
        """Append what `change` makes of the state, if no other writer was faster, and fold it in.

        None: it made nothing. What `change` raises passes through.
        """
        attempt = 0
        while True:
            await self.catch_up()
            try:
                append = change(self.state)
            except NumbersSpent as spent:
                await self._log.reserve(spent.counter, spent.count)
                continue
            if append is None:
                return None
            try:
                written = await self._log.append(replace(append, expected={self._stream: self.seq}))
            except Conflict:
                attempt += 1
                if attempt == _ATTEMPTS_MAX:
                    raise
            else:
                await self.catch_up()
                return written

    def _heard(self, events: Sequence[StoredEvent]) -> None:
        ours = [one for one in events if one.stream == self._stream]
        # After a gap (while loading, or after a missed signal), `catch_up` reads all events in order.
        if ours and ours[0].seq <= self.seq + 1:
            self._fold(ours)

    def _fold(self, events: Sequence[StoredEvent]) -> None:
        for one in events:
            if one.seq > self.seq:
                self.seq = one.seq
                self._apply(one)

    def _apply(self, event: StoredEvent) -> None:
        self.state.apply(event)
