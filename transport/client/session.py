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
"""

from typing import Any, Literal

import msgspec

from huahuo.actors.plugins.words import Language
from huahuo.transport.client.ack_timer import AckTimer
from huahuo.transport.client.commands import Commands, Pace
from huahuo.transport.client.farewell import Farewell
from huahuo.transport.client.followings import Followings
from huahuo.transport.client.happenings import Happening, Processed, Readable, Replied, StreamEnded
from huahuo.transport.client.liveness import Liveness
from huahuo.transport.client.model import (
    After,
    ClientError,
    ClientStopped,
    CommandError,
    Cursor,
    Goaway,
    Item,
    Lag,
    Live,
    LogReplaced,
    NotSubscribed,
    Offline,
    Online,
    Outcome,
    Problem,
    ProtocolViolation,
    Stopped,
    StreamDenied,
    StreamInUse,
    TokenExpiring,
)
from huahuo.transport.client.retry import Retry
from huahuo.transport.client.streams import Following
from huahuo.transport.client.waiters import Waiters
from huahuo.transport.client.wire import encode, parse
from huahuo.transport.protocol.codes import NOT_RECORDED
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
        self._language = language
        self.phase: Phase = "away"
        self.window = window
        self.needs_token = False  # the last token used is no longer valid
        self.retry = retry
        self.dictionary: DictionaryPlace | None = None  # the dictionary of binary messages
        self._client = client
        self.streams = Followings()
        self._commands = Commands(command_prefix, commands_max, retry.delay_s)
        self._pace = Pace(messages_per_s)
        self._log = ""
        self._urgent: list[dict[str, Any]] = []
        self._happened: list[Happening] = []
        self._waiters = Waiters()
        self._resume: frozenset[str] = frozenset()
        self._automatic: frozenset[str] = frozenset()
        self._acks = AckTimer()
        self._liveness = Liveness()
        self._farewell = Farewell()

    @property
    def dead(self) -> bool:
        """Whether the server is silent for too long."""
        return self._liveness.dead

    # -- the connection's life ------------------------------------------------------------------

    def connected(self, token: str, now: float) -> None:
        """A socket is open: authenticate, and resume at the consumers' positions."""
        self.phase = "authenticating"
        self._liveness.connected(now)
        self._farewell = Farewell()
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
        code, reason, verdict = self._farewell.close(code, reason, now, self.retry)
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
        if self._acks.ack_due(now):
            self._acknowledge(now)
        messages = [encode(message) for message in self._urgent]
        self._urgent.clear()
        if self.phase == "online":
            messages += [
                encode(stream.ask(self._commands.new_id(), self._log))
                for stream in self.streams.due(now)
                if self._pace.take(now)
            ]
            messages += self._commands.due(self._pace, now)
        return messages

    def deadline(self) -> float | None:
        """The latest time at which `tick` and then `outgoing` must be called."""
        online = self.phase == "online"
        times = [self._acks.ack_at, self._acks.save_at, self._liveness.deadline(online=online)]
        if online:
            times += [self._commands.next_at(self._pace), self.streams.next_at(self._pace.next_at())]
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        if self._acks.ack_due(now):
            self._acknowledge(now)
        if self._acks.save_due(now):
            self._save()
        if self._liveness.tick(now, online=self.phase == "online"):
            self._urgent.append({"action": "heartbeat"})

    def drain(self) -> list[Happening]:
        """The happenings since the last call, oldest first."""
        happened, self._happened = self._happened, []
        return happened

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
            stream.retry_at = now

    def unsubscribe(self, name: str, now: float) -> None:
        """The consumer is gone. The server's own choice (`user/<id>`, `system`) stays subscribed, unread."""
        stream = self.streams.get(name)
        if stream is None:
            return
        self._save()
        if self.phase == "online" and name in self._automatic:
            if stream.active and not stream.expects:
                stream.abandon()
            else:
                self.streams[name] = passing = Following(name, "head", None, consumed=False)
                passing.retry_at = now
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

    def command(self, action: str, fields: dict[str, Any], command_id: str | None = None) -> str:
        """Add a command; returns its id. Raises as `Commands.add`."""
        return self._commands.add(action, fields, command_id)

    def forget(self, command_id: str) -> None:
        """The caller gave the command up."""
        self._commands.forget(command_id)

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

    def received(self, raw: str | bytes, now: float) -> None:
        """Handle one message of the server.

        Raises:
            ProtocolViolation: it breaks PROTOCOL; close the connection.
        """
        try:
            message = parse(raw)
        except msgspec.DecodeError as error:
            raise ProtocolViolation("a message that cannot be read") from error
        self._liveness.heard(now, is_answer=self._farewell.goaway is None and self.phase == "online")
        match message:
            case Moving(stream=name):
                stream = self.streams.get(name)
                if stream is not None:
                    self._arrived(stream, message, len(raw), now)
            case dict():
                if (whole := self._commands.assembled(message, len(raw))) is not None:
                    self._replied(whole, now)
            case AuthResult():
                self._authenticated(message, now)
            case Subscribed(stream=name):
                stream = self.streams.get(name)
                if stream is not None and stream.asked == message.id:
                    self._placed(stream, message.log, message, now)
            case Unsubscribed(stream=name, reason="busy", retry_s=float() as retry_s):
                stream = self.streams.get(name)
                if stream is not None:
                    stream.put_off(now + retry_s)
            case Unsubscribed(stream=name, reason=reason):
                if reason == "forbidden":
                    self._end(name, StreamDenied(name))
                elif reason:
                    self._end(name, CommandError(reason, f"{name}: the server ended the subscription"))
            case LiveFrame(stream=name, seq=seq):
                stream = self.streams.get(name)
                if stream is not None and stream.active:
                    if stream.live(message):
                        self._acks.ack_soon(self.window, now)  # the check is stored with the cursor
                    self._happened.append(Live(name, seq))
            case LagFrame(stream=name, behind=behind):
                self._happened.append(Lag(name, behind))
            case TokenExpiringFrame(in_s=in_s):
                self._happened.append(TokenExpiring(in_s))
            case GoawayFrame(code=code, reason=reason):
                self._farewell.goaway = message
                self._liveness.expect_end(now)
                self._happened.append(Goaway(code, reason))
            case HeartbeatFrame():
                self._urgent.append({"action": "heartbeat_response"})

    def _arrived(self, stream: Following, frame: Moving, size_bytes: int, now: float) -> None:
        moved = stream.move(frame, self._log, size_bytes)
        if moved is None:
            self._happened.append(Problem("missing_events", f"{stream.name}: asking again"))
            stream.active, stream.retry_at = False, now
        elif stream.consumed:
            if moved:
                self._happened.append(Readable(stream.name))
            if stream.buffered > 2 * self.window:
                raise ProtocolViolation("the server ignores the window")
        elif moved:
            self._acks.count(moved)
            self._happened += self._waiters.reached(stream.name, stream.received)
            self._acks.ack_soon(self.window, now)

    def _authenticated(self, result: AuthResult, now: float) -> None:
        if not result.success:
            self._farewell.failure = result
            self._liveness.expect_end(now)
            return
        if self.phase == "online":  # a refreshed token changes no position
            return
        self.dictionary = result.dictionary
        self.phase, self.window = "online", result.window
        self._liveness.online(result.heartbeat_s)
        self.retry.online(now)
        self._log = result.log
        self._acks.forget()
        self._automatic = frozenset({"system", f"user/{result.user.get('user_id')}"})
        self._happened.append(Online(result.log, result.session, result.user))
        for name, place in result.streams.items():
            if name in self._resume:
                if name in self.streams:
                    self._placed(self.streams[name], result.log, place, now)
            elif name not in self.streams:
                self.streams[name] = passing = Following(name, "head", None, consumed=False)
                passing.place(result.log, place)
        for stream in self.streams.values():
            if not stream.active:
                stream.retry_at = now
        self._acks.ack_soon(self.window, now)

    def _placed(self, stream: Following, log: str, place: StreamPlace | Subscribed, now: float) -> None:
        if place.outcome == "denied":
            self._end(stream.name, StreamDenied(stream.name))
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
                asked.asked, asked.retry_at = "", now + max(retry_s, self.retry.delay_s(1))
            else:
                self._end(asked.name, error)

    def _end(self, name: str, error: ClientError) -> None:
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
