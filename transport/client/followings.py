"""All streams that a client follows, by name: what holds for each of them at once. Pure."""

from heapq import heappop, heappush
from itertools import count
from typing import Any

from huahuo.transport.client.model import Cursor
from huahuo.transport.client.streams import Following


class Followings(dict[str, Following]):
    """See the module. A plain dict otherwise: each event that arrives is looked up here.

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
