"""The deadlines of one connection: authentication, silence, acks, the token's end (PROTOCOL 3, 5). Pure."""

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import Dialect
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import PING
from huahuo.transport.session import outgoing
from huahuo.transport.session.interface import Now
from huahuo.transport.words import en

LOOK_S_MAX = 5.0
"""A connection that keeps a pace is looked at this often, as only then is what it was sent counted."""


class Liveness:
    """Keeps the times that the deadlines count from."""

    __slots__ = ("_dialect", "_opened_s", "_ping_at_s", "_settings", "_warn_ms", "_warned", "heard_s")

    def __init__(self, settings: TransportSettings, dialect: Dialect, now_s: float) -> None:
        self._settings = settings
        self._dialect = dialect
        self._opened_s = now_s
        self.heard_s = now_s
        """When a message or a pong came last. The part that hears it sets this."""
        self._ping_at_s = now_s + settings.heartbeat_s
        self._warned = False
        self._warn_ms: float | None = settings.token_warning_s * 1000

    def wake_up(self, now_s: float) -> None:
        """The process slept: send a ping at once, and give the client a heartbeat to answer."""
        self._ping_at_s = now_s
        spared_s = (self._dialect.silent_heartbeats - 1) * self._settings.heartbeat_s
        self.heard_s = max(self.heard_s, now_s - spared_s)

    def renewed(self) -> None:
        """A new token was accepted: its end must be announced too."""
        self._warned = False
        self._warn_ms = None

    def overdue(
        self, now_s: float, *, connected: bool, unacked_since_s: float | None
    ) -> tuple[CloseCode, str] | None:
        """Why the connection must end now; None: it need not. `connected`: no token has come yet."""
        settings = self._settings
        if connected and now_s >= self._opened_s + settings.auth_timeout_s:
            return CloseCode.AUTH_TIMEOUT, en.NO_SIGN_IN
        if now_s > self.heard_s + self._dialect.silent_heartbeats * settings.heartbeat_s:
            return CloseCode.SILENT, en.SILENT
        if unacked_since_s is not None and now_s >= unacked_since_s + settings.ack_timeout_s:
            return CloseCode.TOO_SLOW, en.NO_ACK
        return None

    def quiet_until_s(
        self, now_s: float, unacked_since_s: float | None, left_ms: int | None, *, paced: bool = False
    ) -> float:
        """The earliest time of a deadline, a ping or a warning. `paced`: at most `LOOK_S_MAX` ahead.

        `left_ms`: until the token ends; None: no token has come yet. Messages, acks and pongs that come
        meanwhile only make it later. It is wrong once the wall clock is set, because tokens end by that.
        """
        settings = self._settings
        times = [
            self._ping_at_s,
            self.heard_s + self._dialect.silent_heartbeats * settings.heartbeat_s,
            (now_s if unacked_since_s is None else unacked_since_s) + settings.ack_timeout_s,
        ]
        if paced:
            times.append(now_s + LOOK_S_MAX)
        if left_ms is None:
            times.append(self._opened_s + settings.auth_timeout_s)
        else:
            left_s = left_ms / 1000
            times.append(now_s + (left_s if self._warned else left_s - settings.token_warning_s))
        return min(times)

    def warnings(self, left_ms: int) -> list[bytes]:
        """`token_expiring`, once for each token that has little time left.

        Of a renewed token half of its time passes first: a client answers with the next one, and tokens that
        live for less than the warning would follow one another without a pause.
        """
        if self._warn_ms is None:
            self._warn_ms = min(self._settings.token_warning_s * 1000, left_ms / 2)
        if self._warned or left_ms > self._warn_ms:
            return []
        self._warned = True
        return [outgoing.message(type="token_expiring", in_s=-(-left_ms // 1000))]

    def pings(self, now: Now) -> list[bytes]:
        """A ping, once in `heartbeat_s`. Some dialects are told so in a message, too."""
        if now.s < self._ping_at_s:
            return []
        self._ping_at_s = now.s + self._settings.heartbeat_s
        if not self._dialect.tells_heartbeat:
            return [PING]
        return [PING, outgoing.message(type="heartbeat", timestamp=outgoing.timestamp(now.ms))]
