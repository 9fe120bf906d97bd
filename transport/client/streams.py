"""The Python client's position in one stream: order, repeats, gaps, and the buffer for its consumer. Pure.

There are four positions, each at most the next: `processed` (the consumer asked for the next item) ≤
`cursor` (handed to the consumer) ≤ `received` (in the buffer) ≤ the server's. A new connection resumes at
`cursor` and the buffer is emptied, so it never holds more than a window.

An `era` is a range of seqs of one history. A snapshot begins a new era. Reports of a consumer about an
older era are ignored. A check from the server belongs to a seq of the current era. It becomes part of
`cursor` only when `cursor` reaches that seq: with a cursor of an older era, it would vouch for events that
were replaced.

After a `reset` of the same log the log of `cursor` is "", so that no connection resumes at it. Its check
stays: it is stored with `processed`, so the next run of the application is told of the reset too.

`Followings` has all followed streams by name: what holds for each of them at once.
"""

from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import Any

from huahuo.transport.client.model import (
    After,
    Batch,
    Check,
    Cursor,
    Item,
    ProtocolViolation,
    Skipped,
    Snapshot,
)
from huahuo.transport.protocol.kinds import (
    Assembly,
    EventsFrame,
    LiveFrame,
    Moving,
    SkippedFrame,
    SnapshotFrame,
    StreamPlace,
    Subscribed,
)

BY_SNAPSHOT = frozenset({"gap", "reset", "snapshot"})
"""Outcomes after which all events are ignored until a snapshot."""


class Following:
    """One stream. `consumed`: the application reads it. Otherwise events only move the position."""

    __slots__ = (
        "acked",
        "active",
        "asked",
        "assembly",
        "buffer",
        "buffered",
        "checks",
        "consumed",
        "cursor",
        "era",
        "expects",
        "log",
        "name",
        "processed",
        "received",
        "retry_at",
        "saved",
        "start",
    )

    def __init__(self, name: str, start: After, cursor: Cursor | None, *, consumed: bool) -> None:
        self.name = name
        self.start = start
        self.cursor = cursor
        self.consumed = consumed
        self.buffer: deque[Item] = deque()
        self.buffered = 0  # events in the buffer
        self.checks: list[tuple[int, Check]] = []  # with their eras; `cursor` has not reached them
        self.era = 0
        self.log = cursor.log if cursor else ""
        self.received = cursor.seq if cursor else 0
        self.processed = cursor.seq if cursor else -1  # -1: no position yet
        self.acked = -1
        self.saved = -1
        self.active = False  # the server has placed this connection
        self.assembly = Assembly()  # of a state that comes in parts
        self.expects = ""  # the outcome whose snapshot must come next
        self.asked = ""  # the id of the `subscribe` that waits for its answer
        self.retry_at: float | None = None  # when to send `subscribe` (again): see `Followings.want`

    def connection_lost(self) -> None:
        """The subscription ended with the connection. The buffer may still be consumed."""
        self.active = False
        self.assembly = Assembly()
        self.expects = self.asked = ""
        self.retry_at = None
        self.acked = -1

    def put_off(self) -> None:
        """The server refused the stream for now: it is to be asked again (`Followings.want`)."""
        self.active = False
        self.expects = self.asked = ""

    def rewind(self) -> None:
        """Empty the buffer; its events will be requested again."""
        self.buffer.clear()
        self.buffered = 0
        self.checks.clear()

    def place(self, log: str, place: StreamPlace | Subscribed) -> None:
        """The server has placed this connection."""
        self.active, self.asked, self.retry_at = True, "", None
        self.assembly = Assembly()
        cursor = self.cursor
        if place.outcome in BY_SNAPSHOT:
            self.expects = place.outcome
            if place.outcome == "reset" and cursor is not None and cursor.log == log:
                # Its events were replaced: never resume from it, even if the log grows past it.
                self.cursor = Cursor("", cursor.seq, cursor.check)
            return
        if self.consumed and cursor is not None and (cursor.log, cursor.seq) != (log, place.after):
            raise ProtocolViolation(f"{self.name} was put somewhere else than asked for")
        self.expects = ""
        self.log, self.received = log, place.after
        if self.cursor is None:
            self.cursor, self.processed = Cursor(log, place.after), place.after
        self._pass_by()

    def move(self, frame: Moving, log: str, size_bytes: int) -> int | None:
        """Apply a frame that moves the position. How far it moved; None: events are missing before it.

        Raises:
            ProtocolViolation: as `snapshot`.
        """
        before = self.received
        match frame:
            case EventsFrame():
                contiguous = self.events(frame)
            case SkippedFrame():
                contiguous = self.skipped(frame)
            case SnapshotFrame():  # a state after event 0 counts as progress too
                return self.received + 1 if self.snapshot(log, frame, size_bytes) else 0
            case _:
                raise TypeError(f"a kind without a place here: {type(frame).__name__}")
        return self.received - before if contiguous else None

    def events(self, frame: EventsFrame) -> bool:
        """Add a run. False: events are missing before it."""
        if not self.active or self.expects:
            return True
        if frame.seq > self.received + 1:
            return False
        known = self.received + 1 - frame.seq
        bodies = frame.events[known:] if known else frame.events
        if bodies:
            first, self.received = self.received + 1, self.received + len(bodies)
            if self.consumed:
                self.buffer.append(Batch(self.name, first, bodies, self.log, self.era))
                self.buffered += len(bodies)
            self._pass_by()
        return True

    def skipped(self, frame: SkippedFrame) -> bool:
        """Add a compacted range. False: events are missing before it."""
        if not self.active or self.expects or frame.to <= self.received:
            return True
        if frame.seq > self.received + 1:
            return False
        first, self.received = self.received + 1, frame.to
        if self.consumed:
            self.buffer.append(Skipped(self.name, first, frame.to, frame.reason, self.log, self.era))
        self._pass_by()
        return True

    def snapshot(self, log: str, frame: SnapshotFrame, size_bytes: int) -> bool:
        """Add a state that replaces everything, or a part of it. True: it is complete and was wanted.

        Raises:
            ProtocolViolation: a part is missing, or all parts together are too large.
        """
        if not self.active or (not self.expects and frame.seq <= self.received):
            return False
        state = frame.state
        if frame.more or frame.part > 1:
            if not self.assembly.add(state, frame.part, size_bytes):
                raise ProtocolViolation(f"{self.name}: a part that does not fit")
            if frame.more:
                return False
            state, self.assembly = self.assembly.whole, Assembly()
        outcome, self.expects = self.expects or "gap", ""
        self.era += 1
        self.log, self.received = log, frame.seq
        self.processed = self.acked = self.saved = -1
        if frame.check and self.consumed:
            self.checks.append((self.era, (frame.seq, frame.check)))
        if self.consumed:
            self.buffer.append(Snapshot(self.name, frame.seq, state, outcome, log, self.era))
        self._pass_by()
        return True

    def take(self) -> Item | None:
        """Hand the next item to the consumer. A later connection resumes behind it."""
        if not self.buffer:
            return None
        item = self.buffer.popleft()
        if isinstance(item, Batch):
            self.buffered -= len(item)
        known = None if isinstance(item, Snapshot) or self.cursor is None else self.cursor.check
        self.cursor = Cursor(item.log, item.last, self._checked(item.era, item.last) or known)
        return item

    def live(self, frame: LiveFrame) -> bool:
        """The server sent a check for a seq. True: `cursor` is at that seq and has the check now."""
        if not frame.check or not self.consumed or not self.active or self.expects:
            return False
        self.checks.append((self.era, (frame.seq, frame.check)))
        cursor = self.cursor
        if self.buffer or cursor is None:
            return False
        check = self._checked(self.era, cursor.seq)
        if check is None or check == cursor.check:
            return False
        self.cursor = Cursor(cursor.log, cursor.seq, check)
        self.saved = -1  # the cursor was saved without this check: save it again
        return True

    def _checked(self, era: int, seq: int) -> Check | None:
        """The last check of `era` at or before `seq`. It and older checks are removed from `checks`."""
        found: Check | None = None
        while self.checks and (self.checks[0][0] < era or self.checks[0][1][0] <= seq):
            of_era, check = self.checks.pop(0)
            if of_era == era:
                found = check
        return found

    def abandon(self) -> None:
        """The consumer is gone, but events still arrive: they count as processed."""
        self.consumed = False
        self.buffer.clear()
        self.buffered = 0
        self._pass_by()

    def _pass_by(self) -> None:
        if not self.consumed:
            self.processed = self.received
            self.cursor = Cursor(self.log, self.received)  # no later connection resumes at it

    @property
    def stored(self) -> Cursor:
        """Where a later run goes on: behind what was processed."""
        return Cursor(self.log, self.processed, self.cursor.check if self.cursor is not None else None)

    @property
    def ackable(self) -> bool:
        """Whether `processed` has moved and may be acked on this connection."""
        return self.active and not self.expects and self.processed > max(self.acked, 0)

    def ask(self, subscribe_id: str, log: str) -> dict[str, Any]:
        """The `subscribe` message for the consumer's position."""
        self.rewind()
        self.active, self.expects, self.retry_at = False, "", None
        self.asked = subscribe_id
        request: dict[str, Any] = {"action": "subscribe", "id": subscribe_id, "stream": self.name}
        if self.cursor is not None:
            request |= {"after": self.cursor.seq, "log": self.cursor.log}
            return request if self.cursor.check is None else request | {"check": self.cursor.check}
        if isinstance(self.start, int):
            return request | {"after": self.start, "log": log}
        return request | {"after": self.start}


class Followings(dict[str, Following]):
    """All streams that a client follows, by name: what holds for each of them at once.

    A plain dict otherwise: each event that arrives is looked up here.

    What is done for one stream costs the same however many there are: a client may join and leave thousands.
    """

    def __init__(self) -> None:
        super().__init__()
        self._wanted: list[tuple[float, int, Following]] = []  # a heap; out of date where `retry_at` differs
        self._count = count()
        self._left: dict[str, Cursor] = {}

    def resume(self, log: str) -> dict[str, Any]:
        """The `resume` of `authenticate` on a new connection: the positions in `log`.

        If `log` is "", it is that of the first cursor. A cursor of another log is left out; its stream is
        then asked for by itself.
        """
        for stream in self.values():
            stream.rewind()
        cursors = {name: stream.cursor for name, stream in self.items() if stream.cursor is not None}
        log = log or next((cursor.log for cursor in cursors.values()), "")
        here = {name: cursor for name, cursor in cursors.items() if cursor.log == log}
        resume: dict[str, Any] = {
            "log": log or None,
            "cursors": {name: cursor.seq for name, cursor in here.items()},
        }
        checks = {name: cursor.check for name, cursor in here.items() if cursor.check is not None}
        return resume | {"checks": checks} if checks else resume

    def connection_lost(self) -> None:
        """The connection is gone, and with it the streams that only the server followed."""
        for name, stream in list(self.items()):
            stream.connection_lost()
            if not stream.consumed:
                del self[name]

    def want(self, stream: Following, at: float) -> None:
        """Ask for this stream at `at`."""
        stream.retry_at = at
        heappush(self._wanted, (at, next(self._count), stream))

    def due(self, now: float) -> Following | None:
        """The first stream that is to be asked for at `now`. It stays the first until it was asked for."""
        first = self._first_wanted()
        return first if first is not None and first.retry_at is not None and first.retry_at <= now else None

    def next_at(self, earliest: float) -> float | None:
        """When the next one must be asked for, not before `earliest`; None: there is none."""
        first = self._first_wanted()
        return None if first is None or first.retry_at is None else max(first.retry_at, earliest)

    def _first_wanted(self) -> Following | None:
        while self._wanted:
            at, _, stream = self._wanted[0]
            if stream.retry_at == at and self.get(stream.name) is stream:
                return stream
            heappop(self._wanted)
        return None

    def asked_by(self, message_id: object) -> Following | None:
        """The one whose `subscribe` had this id."""
        return next((one for one in self.values() if message_id and one.asked == message_id), None)

    def take_acks(self) -> dict[str, int]:
        """What to ack on this connection now, by stream. It counts as acked from here on."""
        news = {name: stream.processed for name, stream in self.items() if stream.ackable}
        for name, stream in self.items():
            stream.acked = news.get(name, stream.acked)
        return news

    def leave(self, stream: Following) -> dict[str, int]:
        """The consumer of this stream leaves. Returns what to ack; its cursor waits for `take_cursors`."""
        if stream.consumed and stream.processed > stream.saved:
            stream.saved = stream.processed
            self._left[stream.name] = stream.stored
        if not stream.ackable:
            return {}
        stream.acked = stream.processed
        return {stream.name: stream.processed}

    def left_at(self, name: str) -> Cursor | None:
        """The cursor of a stream that was left, until `take_cursors`."""
        return self._left.get(name)

    def take_cursors(self) -> dict[str, Cursor]:
        """The cursors that moved since they were stored last, by stream. They count as stored then."""
        moved = [stream for stream in self.values() if stream.consumed and stream.processed > stream.saved]
        for stream in moved:
            stream.saved = stream.processed
        left, self._left = self._left, {}
        return left | {one.name: one.stored for one in moved}
