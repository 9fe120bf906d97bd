"""A follower as it was declared, and what its function is given. Pure data.

Where a follower stands in the log, and which events come next. Pure.

Invariant: every event of its kinds up to `cursor` was delivered or put aside, and `pending` holds all
others up to `seen`. So a follower that begins again at its cursor misses nothing.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, Literal

from msgspec import Struct

from huahuo.eventstore.model import StoredEvent

BATCH_MAX: Final = 1_000
DEAD_LETTERS_MAX: Final = 1_000
"""Of one follower. With as many, it goes on trying the next event that fails instead of putting it aside."""
BACKOFF_S_MAX: Final = 300.0

type Position = int
type OwnCursor = Callable[[], Awaitable[Position]]
"""Reads the cursor that a follower keeps in its own database."""


class Followed(Struct, frozen=True):
    """An event as a follower gets it.

    `data` is its body with `type` and `timestamp`, in the form of today's version. `id` is the entity's: a
    number or a text. `position` is its place in the whole log, and rises with each event.
    """

    position: Position
    stream: str
    seq: int
    type: str
    data: dict[str, Any]
    id: int | str = ""
    ts_ms: int = 0
    principal: str = ""

    @property
    def kind(self) -> str:
        """The kind of its stream: `order`."""
        return self.stream.partition("/")[0]


class FollowerRun(Struct, frozen=True):
    """Given to a follower's function as its second argument, where it has one.

    `position`: the cursor after these events, for a follower that keeps it in its own database. `attempt`
    counts from 1 how often the first of these events was tried alone. `again`: it is a dead letter that an
    administrator wants to be tried again, out of order.
    """

    follower: str
    position: Position
    attempt: int = 1
    again: bool = False


def _nothing(_error: BaseException) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A follower. `kinds`: those of the streams; they may change as it runs.

    `types`: those of the events, if it does not want all. `cursor` None: the log keeps it. Else `passing`
    says whether it is also called without events, now and then, after many that it does not want have passed.
    `waits_out`: after such an error an event is tried again for ever, since no event is to blame for it.
    """

    name: str
    kinds: AbstractSet[str]
    types: AbstractSet[str] = frozenset()
    handler: Callable[..., Awaitable[None]]
    wants_run: bool = False
    cursor: OwnCursor | None = None
    passing: bool = False
    batch: int = 100
    retries: int = 10
    waits_out: Callable[[BaseException], bool] = _nothing
    backoff_s: float = 1.0
    first: Literal["start", "head"] = "start"
    place: str = "?"

    def wants(self, kinds: AbstractSet[str], types: AbstractSet[str]) -> bool:
        """Whether one of the events on streams of these kinds may be for it. `types`: theirs."""
        return not self.kinds.isdisjoint(kinds) and not (self.types and self.types.isdisjoint(types))

    async def call(self, events: Sequence[Followed], run: FollowerRun) -> None:
        """Call the function. Raises whatever it raises."""
        if self.wants_run:
            await self.handler(events, run)
        else:
            await self.handler(events)


type ReadEvent = Callable[[StoredEvent], Followed]
"""Makes what the function gets of a stored event. Raises ValueError: the body cannot be read."""


def backoff_s(first_s: float, failures: int, chance: float) -> float:
    """The pause before the next attempt. `chance` in [0, 1) makes it up to half longer or shorter."""
    return float(min(first_s * 2.0 ** min(failures - 1, 30), BACKOFF_S_MAX) * (0.5 + chance))


BYTES_MAX: Final = 1 << 20
"""Bodies of a batch. One event alone may have more."""


class Course:
    """Where a follower stands in the log, and which events come next. A batch has at most `batch_max` events.

    After a batch of several events has failed, each of them is delivered alone, to find the bad one.
    """

    def __init__(self, after: int, batch_max: int) -> None:
        self.seen = after
        self._batch_max = batch_max
        self._pending: deque[StoredEvent] = deque()
        self._bytes = 0
        self._alone_to = 0
        self._failing = 0
        """The position of the event that failed alone, and how often."""
        self._failures = 0

    @property
    def cursor(self) -> int:
        """Everything up to this position is dealt with."""
        return self._pending[0].position - 1 if self._pending else self.seen

    @property
    def pending(self) -> int:
        """Events that were read and not dealt with."""
        return len(self._pending)

    @property
    def wants_more(self) -> bool:
        """Whether the next events should be read now."""
        return len(self._pending) < self._batch_max and self._bytes < BYTES_MAX

    @property
    def failures(self) -> int:
        """How often the next event has failed alone."""
        return self._failures if self._pending and self._pending[0].position == self._failing else 0

    def take_up(self, events: Iterable[StoredEvent], upto: int) -> None:
        """These are the events of its kinds behind `seen` and up to this position."""
        for event in events:
            if event.position > self.seen:
                self._pending.append(event)
                self._bytes += len(event.body)
        self.seen = max(self.seen, upto)

    def skip(self, first: int, last: int) -> bool:
        """None of the events at these positions is of its kinds. False: there are others before them."""
        if self.seen != first - 1:
            return False
        self.seen = last
        return True

    def batch(self) -> Sequence[StoredEvent]:
        """The events to deliver next, in order; none if nothing is pending."""
        found: list[StoredEvent] = []
        size = 0
        for event in self._pending:
            size += len(event.body)
            if found and (size > BYTES_MAX or len(found) >= self._batch_max):
                break
            found.append(event)
            if event.position <= self._alone_to:
                break
        return found

    def done(self, batch: Sequence[StoredEvent]) -> None:
        """This batch was delivered, or its one event was put aside."""
        self._drop_to(batch[-1].position)

    def failed(self, batch: Sequence[StoredEvent]) -> int:
        """This batch failed. How often its one event has now failed, 0 where it has several."""
        if len(batch) > 1:
            self._alone_to = batch[-1].position
            return 0
        position = batch[0].position
        self._failures = self._failures + 1 if position == self._failing else 1
        self._failing = position
        return self._failures

    def go_to(self, cursor: int) -> None:
        """The follower's own database says that everything up to here is dealt with, and no more."""
        if cursor < self.cursor:
            self._pending.clear()
            self._bytes = 0
            self.seen = cursor
            return
        self._drop_to(cursor)
        self.seen = max(self.seen, cursor)

    def _drop_to(self, position: int) -> None:
        while self._pending and self._pending[0].position <= position:
            self._bytes -= len(self._pending.popleft().body)
