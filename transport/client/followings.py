"""All streams that a client follows, by name: what holds for each of them at once. Pure."""

from typing import Any

from huahuo.transport.client.model import Cursor
from huahuo.transport.client.streams import Following


class Followings(dict[str, Following]):
    """See the module. A plain dict otherwise: each event that arrives is looked up here."""

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

    def due(self, now: float) -> list[Following]:
        """Those that must be asked for at `now`."""
        return [one for one in self.values() if one.retry_at is not None and one.retry_at <= now]

    def next_at(self, earliest: float) -> float | None:
        """When the next one must be asked for, not before `earliest`; None: there is none."""
        times = [one.retry_at for one in self.values() if one.retry_at is not None]
        return max(min(times), earliest) if times else None

    def asked_by(self, message_id: object) -> Following | None:
        """The one whose `subscribe` had this id."""
        return next((one for one in self.values() if message_id and one.asked == message_id), None)

    def take_acks(self) -> dict[str, int]:
        """What to ack on this connection now, by stream. It counts as acked from here on."""
        news = {name: stream.processed for name, stream in self.items() if stream.ackable}
        for name, stream in self.items():
            stream.acked = news.get(name, stream.acked)
        return news

    def take_cursors(self) -> dict[str, Cursor]:
        """The cursors that moved since they were stored last, by stream. They count as stored then."""
        moved = [stream for stream in self.values() if stream.consumed and stream.processed > stream.saved]
        for stream in moved:
            stream.saved = stream.processed
        return {
            one.name: Cursor(one.log, one.processed, one.cursor.check if one.cursor is not None else None)
            for one in moved
        }
