"""The Python client's half of PROTOCOL as a machine without socket, clock or chance. Pure.

The shell (`huahuo.transport.client.client`) calls a method for each happening, with the time. After that it

* must send the messages that `outgoing` returns,
* must call `tick` when `deadline` has come,
* must close the connection when `dead` is true,
* takes the happenings for the application from `drain`.

```
            connected              authentication_result            closed, to return
 (away) ───────────────▶ authenticating ───────────────▶ online ───────────────────▶ (away)
                              │ closed                      │ closed, not to return
                              └──────────▶ (away)           └──────────▶ (stopped)
```

It has the consumers, what arrives for them, acks and cursors, and the calls that wait until a stream reaches
a seq (read-your-writes).
"""

import math
from itertools import count
from typing import Any, Literal

import msgspec

from huahuo.actors.plugins.words import Language
from huahuo.transport.client.commands import Commands, encode, parse
from huahuo.transport.client.model import (
    After,
    ClientError,
    ClientStopped,
    CommandError,
    Cursor,
    Goaway,
    Happening,
    Item,
    Lag,
    Live,
    LogReplaced,
    NotSubscribed,
    Offline,
    Online,
    Outcome,
    Problem,
    Processed,
    ProtocolViolation,
    Reached,
    Readable,
    Replied,
    Stopped,
    StreamDenied,
    StreamEnded,
    StreamInUse,
    TokenExpiring,
)
from huahuo.transport.client.retry import Liveness, Retry
from huahuo.transport.client.streams import Following, Followings
from huahuo.transport.protocol.codes import NOT_RECORDED
from huahuo.transport.protocol.flow_control import TokenBucket
from huahuo.transport.protocol.kinds import (
    AuthResult,
    DictionaryPlace,
    GoawayFrame,
    HeartbeatFrame,
    LagFrame,
    LiveFrame,
    Moving,
    StreamPlace,
    Subscribed,
    TokenExpiringFrame,
    Unsubscribed,
)

ACK_AFTER_S = 0.25
"""An ack is sent this long after the first event it covers, or at half a window of events."""
SAVE_EVERY_S = 0.25
"""The least time between two writes of the cursor store, however fast events come."""


type Phase = Literal["away", "authenticating", "online", "stopped"]


class ClientSession:
    """One client installation over any number of connections.

    Args:
        client: the stable id of this installation (PROTOCOL 3.1).
        window: at most this many events wait to be processed.
        command_prefix: makes command ids unique across restarts of this installation.
        retry: decides whether and when to reconnect.
        commands_max: at most this many commands wait for an answer.
        messages_per_s: the rate at which messages are sent; 0 = no limit.
    """

    def __init__(
        self,
        *,
        client: str,
        window: int,
        command_prefix: str,
        retry: Retry,
        commands_max: int = 1000,
        messages_per_s: float = 90.0,
        language: Language | None = None,
    ) -> None:
        self.phase: Phase = "away"
        self.window = window
        self.streams = Followings()
        self._log = ""
        self._urgent: list[dict[str, Any]] = []
        self._happened: list[Happening] = []
        self._awaited: dict[str, dict[int, int]] = {}
        """The seqs that calls wait for, by stream and token."""
        self._tokens = count(1)
        self._automatic: frozenset[str] = frozenset()
        self._unacked = 0
        """Processed events that no ack of this connection covers."""
        self._ack_at: float | None = None
        self._save_at: float | None = None
        self._saved_at = 0.0
        self._language = language
        self.needs_token = False  # the last token used is no longer valid
        self.retry = retry
        self.dictionary: DictionaryPlace | None = None  # the dictionary of binary messages
        self._client = client
        self._commands = Commands(command_prefix, commands_max, retry.delay_s)
        self._pace = TokenBucket(messages_per_s, 2 * messages_per_s, 0.0)
        """After a reconnect, a thousand commands may wait, and the server has a limit (PROTOCOL 6)."""
        self._resume: frozenset[str] = frozenset()
        self._liveness = Liveness()
        self._goaway: GoawayFrame | None = None
        self._failure: AuthResult | None = None

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
        self._save_soon(now)
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
        self._reach(name, math.inf, NotSubscribed(name))

    def take(self, name: str) -> Item | None:
        """The next item for the stream's consumer; None if there is none now."""
        stream = self.streams.get(name)
        return stream.take() if stream is not None else None

    def processed(self, name: str, era: int, seq: int, now: float) -> bool:
        """The consumer has processed all events up to `seq`. Returns whether `deadline` is now earlier."""
        stream = self.streams.get(name)
        if stream is None or stream.era != era or seq <= stream.processed:
            return False
        self._unacked += seq - max(stream.processed, 0)
        stream.processed = seq
        self._reach(name, seq)
        return self._ack_soon(now)

    def wait_for(self, name: str, seq: int) -> int:
        """Ask for `Reached` when event `seq` was processed (or arrived, if the stream has no consumer).

        Raises:
            NotSubscribed: the client does not follow the stream.
        """
        stream = self.streams.get(name)
        if stream is None:
            raise NotSubscribed(name)
        token = next(self._tokens)
        self._awaited.setdefault(name, {})[token] = seq
        self._reach(name, stream.processed)
        return token

    def stop_waiting(self, name: str, token: int) -> None:
        """The caller of `wait_for` gave up."""
        waiting = self._awaited.get(name, {})
        waiting.pop(token, None)
        if not waiting:
            self._awaited.pop(name, None)

    def _reach(self, name: str, seq: float, error: Exception | None = None) -> None:
        """All events up to `seq` are processed, or with `error` never will be."""
        for token, at in tuple(self._awaited.get(name, {}).items()):
            if at <= seq:
                self.stop_waiting(name, token)
                self._happened.append(Reached(token, error))

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
            self._unacked += moved
            self._reach(stream.name, stream.received)
            self._ack_soon(now)

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
            self._reach(stream.name, math.inf, LogReplaced(stream.name))
        if not stream.expects:
            self._reach(stream.name, stream.processed)
            self._ack_soon(now)  # store the place: a later run resumes behind it

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
                self._ack_soon(now)  # the check is stored with the cursor
            self._happened.append(Live(message.stream, message.seq))

    def end(self, name: str, error: ClientError) -> None:
        """The stream has ended: its consumer, and calls that wait for it, get `error`."""
        stream = self.streams.pop(name, None)
        if stream is not None and stream.consumed:
            self._happened.append(StreamEnded(name, error))
        self._reach(name, math.inf, error)

    # -- acks and cursors ------------------------------------------------------------------------

    def _ack_soon(self, now: float) -> bool:
        """Something can be acked. Returns whether the deadline moved."""
        before = self._ack_at
        if self._unacked >= max(1, self.window // 2):
            self._ack_at = now
        elif before is None:
            self._ack_at = now + ACK_AFTER_S
        return self._ack_at != before

    def _save_soon(self, now: float) -> None:
        self._save_at = max(now, self._saved_at + SAVE_EVERY_S)

    def _acknowledge(self, now: float) -> None:
        self._ack_at, self._unacked = None, 0
        self._save_soon(now)
        if self.phase == "online":
            news = self.streams.take_acks()
            if news:
                self._urgent.append({"action": "ack", "cursors": news})

    def _save(self) -> None:
        self._save_at = None
        cursors = self.streams.take_cursors()
        if cursors:
            self._happened.append(Processed(cursors))

    @property
    def dead(self) -> bool:
        """Whether the server is silent for too long."""
        return self._liveness.dead

    # -- the connection's life ------------------------------------------------------------------

    def connected(self, token: str, now: float) -> None:
        """A socket is open: authenticate, and resume at the consumers' positions."""
        self.phase = "authenticating"
        self._liveness.connected(now)
        self._goaway = self._failure = None
        resume = self.streams.resume(self._log)
        self._resume = frozenset(resume["cursors"])
        self._urgent = [
            {
                "action": "authenticate",
                "token": token,
                "client": self._client,
                "window": self.window,
                "parts": True,
                "resume": resume,
                **({} if self._language is None else {"language": self._language}),
            }
        ]

    def authenticate_again(self, token: str) -> None:
        """Refresh the token in place. Subscriptions stay unchanged."""
        if self.phase == "online":
            self._urgent.append({"action": "authenticate", "token": token})

    def closed(self, code: int | None, reason: str, now: float) -> None:
        """The socket is gone or was never opened: decide whether and when to reconnect.

        `code` is the received close code; None if the connection was lost or never made.
        """
        if self.phase == "stopped":
            return
        self.phase = "away"
        self._liveness.closed()
        self._urgent.clear()
        goaway, failure = self._goaway, self._failure.code if self._failure else ""
        if goaway is not None:  # what the server said counts more than the code, which may be lost
            code, reason = goaway.code, goaway.reason or reason
        verdict = self.retry.closed(code, now, goaway.retry_s if goaway else None, failure)
        reason = f"{failure}: {verdict.why}" if self._failure else reason or verdict.why
        self.needs_token = verdict.new_token
        self._commands.connection_lost()
        self.streams.connection_lost()
        if verdict.stop:
            self.stop(ClientStopped(verdict.code, reason))
        else:
            self._happened.append(Offline(code, reason, verdict.delay_s))

    def flush(self, now: float) -> None:
        """Send the acks now, because the application is about to leave."""
        self._acknowledge(now)
        self._save()

    def stop(self, error: ClientStopped) -> None:
        """Stop for good. All waiting calls get `error`."""
        if self.phase == "stopped":
            return
        self.phase = "stopped"
        self._save()
        self._happened.append(Stopped(error))

    # -- what the shell must do -----------------------------------------------------------------

    def outgoing(self, now: float) -> list[str]:
        """The messages to send now, in order."""
        if self._ack_at is not None and self._ack_at <= now:
            self._acknowledge(now)
        messages = [encode(message) for message in self._urgent]
        self._urgent.clear()
        if self.phase == "online":
            while (stream := self.streams.due(now)) is not None and self._pace.take(now):
                messages.append(encode(stream.ask(self._commands.new_id(), self._log)))
            messages += self._commands.due(self._pace, now)
        return messages

    def deadline(self) -> float | None:
        """The latest time at which `tick` and then `outgoing` must be called."""
        online = self.phase == "online"
        times = [self._ack_at, self._save_at, self._liveness.deadline(online=online)]
        if online:
            times += [self._commands.next_at(self._pace), self.streams.next_at(self._pace.next_at_s())]
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        if self._ack_at is not None and self._ack_at <= now:
            self._acknowledge(now)
        if self._save_at is not None and self._save_at <= now:
            self._saved_at = now
            self._save()
        if self._liveness.tick(now, online=self.phase == "online"):
            self._urgent.append({"action": "heartbeat"})

    def drain(self) -> list[Happening]:
        """The happenings since the last call, oldest first."""
        happened, self._happened = self._happened, []
        return happened

    # -- the application's side -----------------------------------------------------------------

    def command(self, action: str, fields: dict[str, Any], command_id: str | None = None) -> str:
        """Add a command; returns its id. Raises as `Commands.add`."""
        return self._commands.add(action, fields, command_id)

    def forget(self, command_id: str) -> None:
        """The caller gave the command up."""
        self._commands.forget(command_id)

    # -- what arrives ---------------------------------------------------------------------------

    def received(self, raw: str | bytes, now: float) -> None:
        """Handle one message of the server.

        Raises:
            ProtocolViolation: it breaks PROTOCOL; close the connection.
        """
        try:
            message = parse(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolViolation("a message that cannot be read") from error
        self._liveness.heard(now, is_answer=self._goaway is None and self.phase == "online")
        match message:
            case Moving(stream=name):
                stream = self.streams.get(name)
                if stream is not None:
                    self.arrived(stream, message, len(raw), now)
            case dict():
                if (whole := self._commands.assembled(message, len(raw))) is not None:
                    self._replied(whole, now)
            case AuthResult():
                self._authenticated(message, now)
            case Subscribed(stream=name):
                stream = self.streams.get(name)
                if stream is not None and stream.asked == message.id:
                    self.placed(stream, message.log, message, now)
            case Unsubscribed():
                self.unsubscribed(message, now)
            case LiveFrame():
                self.caught_up(message, now)
            case LagFrame(stream=name, behind=behind):
                self._happened.append(Lag(name, behind))
            case TokenExpiringFrame(in_s=in_s):
                self._happened.append(TokenExpiring(in_s))
            case GoawayFrame(code=code, reason=reason):
                self._goaway = message
                self._liveness.expect_end(now)
                self._happened.append(Goaway(code, reason))
            case HeartbeatFrame():
                self._urgent.append({"action": "heartbeat_response"})

    def _authenticated(self, result: AuthResult, now: float) -> None:
        if not result.success:
            self._failure = result
            self._liveness.expect_end(now)
            return
        if self.phase == "online":  # a refreshed token changes no position
            return
        self.dictionary = result.dictionary
        self.phase, self.window = "online", result.window
        self._liveness.online(result.heartbeat_s)
        self.retry.online(now)
        self._log = result.log
        self._unacked = 0
        self._automatic = frozenset({"system", f"user/{result.user.get('user_id')}"})
        self._happened.append(Online(result.log, result.session, result.user))
        for name, place in result.streams.items():
            if name in self._resume:
                if name in self.streams:
                    self.placed(self.streams[name], result.log, place, now)
            elif name not in self.streams:
                self.streams[name] = passing = Following(name, "head", None, consumed=False)
                passing.place(result.log, place)
        for stream in self.streams.values():
            if not stream.active:
                self.streams.want(stream, now)
        self._ack_soon(now)

    def _replied(self, message: dict[str, Any], now: float) -> None:
        command_id = message.get("id")
        error = CommandError.of(message) if message.get("type") == "error" else None
        retry_s = (error.retry_s or 0.0) if error else 0.0
        if isinstance(command_id, str) and command_id in self._commands:
            if self._commands.answered(command_id, error.code if error else "", now, retry_s):
                self._happened.append(Replied(command_id, error or message))
        elif error is not None:
            asked = self.streams.asked_by(command_id)
            if asked is None:
                self._happened.append(Problem(error.code, error.message))
            elif error.code in NOT_RECORDED:
                asked.asked = ""
                self.streams.want(asked, now + max(retry_s, self.retry.delay_s(1)))
            else:
                self.end(asked.name, error)
