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

from typing import Any

import msgspec

from huahuo.actors.plugins.words import Language
from huahuo.transport.client.commands import Commands, Pace
from huahuo.transport.client.farewell import Farewell
from huahuo.transport.client.happenings import Happening, Replied
from huahuo.transport.client.liveness import Liveness
from huahuo.transport.client.model import (
    ClientStopped,
    CommandError,
    Goaway,
    Lag,
    Offline,
    Online,
    Problem,
    ProtocolViolation,
    Stopped,
    TokenExpiring,
)
from huahuo.transport.client.retry import Retry
from huahuo.transport.client.stream_reader import StreamReader
from huahuo.transport.client.streams import Following
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
    Subscribed,
    TokenExpiringFrame,
    Unsubscribed,
)


class ClientSession(StreamReader):
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
        super().__init__(window)
        self._language = language
        self.needs_token = False  # the last token used is no longer valid
        self.retry = retry
        self.dictionary: DictionaryPlace | None = None  # the dictionary of binary messages
        self._client = client
        self._commands = Commands(command_prefix, commands_max, retry.delay_s)
        self._pace = Pace(messages_per_s)
        self._resume: frozenset[str] = frozenset()
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
            while (stream := self.streams.due(now)) is not None and self._pace.take(now):
                messages.append(encode(stream.ask(self._commands.new_id(), self._log)))
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
        self._liveness.heard(now, is_answer=self._farewell.goaway is None and self.phase == "online")
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
                self._farewell.goaway = message
                self._liveness.expect_end(now)
                self._happened.append(Goaway(code, reason))
            case HeartbeatFrame():
                self._urgent.append({"action": "heartbeat_response"})

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
                    self.placed(self.streams[name], result.log, place, now)
            elif name not in self.streams:
                self.streams[name] = passing = Following(name, "head", None, consumed=False)
                passing.place(result.log, place)
        for stream in self.streams.values():
            if not stream.active:
                self.streams.want(stream, now)
        self._acks.ack_soon(self.window, now)

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
