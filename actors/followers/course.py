"""Where a follower stands in the log, and which events come next. Pure.

Invariant: every event of its kinds up to `cursor` was delivered or put aside, and `pending` holds all others
up to `seen`. So a follower that begins again at its cursor misses nothing.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from huahuo.eventstore.model import StoredEvent

BYTES_MAX: Final = 1 << 20
"""Bodies of a batch. One event alone may have more."""


class Course:
    """See the module. A batch has at most `batch_max` events.

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
