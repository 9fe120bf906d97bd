"""The streams of a client: consumers, what arrives for them, acks and cursors. Pure.

What happened is put into `_happened`, what must be sent into `_urgent`; `ClientSession` hands both out.
"""

from typing import Any, Literal

from huahuo.transport.client.ack_timer import AckTimer
from huahuo.transport.client.followings import Followings
from huahuo.transport.client.happenings import Happening, Processed, Readable, StreamEnded
from huahuo.transport.client.model import (
    After,
    ClientError,
    CommandError,
    Cursor,
    Item,
    Live,
    LogReplaced,
    NotSubscribed,
    Outcome,
    Problem,
    ProtocolViolation,
    StreamDenied,
    StreamInUse,
)
from huahuo.transport.client.streams import Following
from huahuo.transport.client.waiters import Waiters
from huahuo.transport.protocol.kinds import LiveFrame, Moving, StreamPlace, Subscribed, Unsubscribed

type Phase = Literal["away", "authenticating", "online", "stopped"]


class StreamReader:
    """The part of a session that reads streams. `window`: at most this many events wait to be processed."""

    def __init__(self, window: int) -> None:
        self.phase: Phase = "away"
        self.window = window
        self.streams = Followings()
        self._log = ""
        self._urgent: list[dict[str, Any]] = []
        self._happened: list[Happening] = []
        self._waiters = Waiters()
        self._automatic: frozenset[str] = frozenset()
        self._acks = AckTimer()

    # -- the application's side -----------------------------------------------------------------

    def subscribe(self, name: str, start: After, cursor: Cursor | None, now: float) -> None:
        """Add a consumer of this stream, from `cursor`, or from `start` if there is none.

        Raises:
            StreamInUse: the stream has a consumer already.
        """
        known = self.streams.get(name)
        if known is not None and known.consumed:
            raise StreamInUse(name)
        self.streams[name] = stream = Following(name, start, cursor, consumed=True)
        if self.phase == "online":
            self.streams.want(stream, now)

    def left_at(self, name: str) -> Cursor | None:
        """The cursor of a stream whose consumer left, while it is not in `Processed` yet."""
        return self.streams.left_at(name)

    def unsubscribe(self, name: str, now: float) -> None:
        """The consumer is gone. The server's own choice (`user/<id>`, `system`) stays subscribed, unread."""
        stream = self.streams.get(name)
        if stream is None:
            return
        news = self.streams.leave(stream)  # what was processed last is forgotten with the stream
        if news and self.phase == "online":
            self._urgent.append({"action": "ack", "cursors": news})
        self._acks.save_soon(now)
        if self.phase == "online" and name in self._automatic:
            if stream.active and not stream.expects:
                stream.abandon()
            else:
                self.streams[name] = passing = Following(name, "head", None, consumed=False)
                self.streams.want(passing, now)
            return
        del self.streams[name]
        if self.phase == "online":
            self._urgent.append({"action": "unsubscribe", "stream": name})
        self._happened += self._waiters.failed(name, NotSubscribed(name))

    def take(self, name: str) -> Item | None:
        """The next item for the stream's consumer; None if there is none now."""
        stream = self.streams.get(name)
        return stream.take() if stream is not None else None

    def processed(self, name: str, era: int, seq: int, now: float) -> bool:
        """The consumer has processed all events up to `seq`. Returns whether `deadline` is now earlier."""
        stream = self.streams.get(name)
        if stream is None or stream.era != era or seq <= stream.processed:
            return False
        self._acks.count(seq - max(stream.processed, 0))
        stream.processed = seq
        self._happened += self._waiters.reached(name, seq)
        return self._acks.ack_soon(self.window, now)

    def wait_for(self, name: str, seq: int) -> int:
        """Ask for `Reached` when event `seq` was processed (or arrived, if the stream has no consumer).

        Raises:
            NotSubscribed: the client does not follow the stream.
        """
        stream = self.streams.get(name)
        if stream is None:
            raise NotSubscribed(name)
        token = self._waiters.add(name, seq)
        self._happened += self._waiters.reached(name, stream.processed)
        return token

    def stop_waiting(self, token: int) -> None:
        """The caller of `wait_for` gave up."""
        self._waiters.forget(token)

    # -- what arrives ---------------------------------------------------------------------------

    def arrived(self, stream: Following, frame: Moving, size_bytes: int, now: float) -> None:
        """A run of events, a skipped range or a state of a stream that the client follows."""
        moved = stream.move(frame, self._log, size_bytes)
        if moved is None:
            self._happened.append(Problem("missing_events", f"{stream.name}: asking again"))
            stream.active = False
            self.streams.want(stream, now)
        elif stream.consumed:
            if moved:
                self._happened.append(Readable(stream.name))
            if stream.buffered > 2 * self.window:
                raise ProtocolViolation("the server ignores the window")
        elif moved:
            self._acks.count(moved)
            self._happened += self._waiters.reached(stream.name, stream.received)
            self._acks.ack_soon(self.window, now)

    def placed(self, stream: Following, log: str, place: StreamPlace | Subscribed, now: float) -> None:
        """The server has placed the connection in the stream."""
        if place.outcome == "denied":
            self.end(stream.name, StreamDenied(stream.name))
            return
        if place.outcome == "pending":
            return  # `subscribed` or `unsubscribed` follows; after a sign-in we subscribe, and wait for that
        stream.place(log, place)
        self._happened.append(Outcome(stream.name, place.outcome, place.after, place.head))
        if place.outcome == "reset":
            self._happened += self._waiters.failed(stream.name, LogReplaced(stream.name))
        if not stream.expects:
            self._happened += self._waiters.reached(stream.name, stream.processed)
            self._acks.ack_soon(self.window, now)  # store the place: a later run resumes behind it

    def unsubscribed(self, message: Unsubscribed, now: float) -> None:
        """The server ended the subscription, for now or for good, or confirms that the client did."""
        name, reason = message.stream, message.reason
        if reason == "busy" and message.retry_s is not None:
            stream = self.streams.get(name)
            if stream is not None:
                stream.put_off()
                self.streams.want(stream, now + message.retry_s)
        elif reason == "forbidden":
            self.end(name, StreamDenied(name))
        elif reason:
            self.end(name, CommandError(reason, f"{name}: the server ended the subscription"))

    def caught_up(self, message: LiveFrame, now: float) -> None:
        """The connection has every event of the stream."""
        stream = self.streams.get(message.stream)
        if stream is not None and stream.active:
            if stream.live(message):
                self._acks.ack_soon(self.window, now)  # the check is stored with the cursor
            self._happened.append(Live(message.stream, message.seq))

    def end(self, name: str, error: ClientError) -> None:
        """The stream has ended: its consumer, and calls that wait for it, get `error`."""
        stream = self.streams.pop(name, None)
        if stream is not None and stream.consumed:
            self._happened.append(StreamEnded(name, error))
        self._happened += self._waiters.failed(name, error)

    # -- acks and cursors ------------------------------------------------------------------------

    def _acknowledge(self, now: float) -> None:
        self._acks.acked(now)
        if self.phase == "online":
            news = self.streams.take_acks()
            if news:
                self._urgent.append({"action": "ack", "cursors": news})

    def _save(self) -> None:
        self._acks.save_at = None
        cursors = self.streams.take_cursors()
        if cursors:
            self._happened.append(Processed(cursors))
