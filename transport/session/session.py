"""The server's side of one connection, without I/O (PROTOCOL 3 to 6, 8, 10). Pure.

Inputs are method calls that say what happened and when. Outputs are values that say what to do, in order;
`bytes` among them are complete WebSocket frames to write. The session never waits, reads a clock or touches a
socket, so tests, the simulator and the real connection drive the same object.

There is one machine, `STATES`. Most messages change no state, so it has few transitions:

    CONNECTED    not authenticated. Only `authenticate` and heartbeats are accepted; ends after 10 s.
    VERIFYING    a token is being verified (the answer may be held back). Then the log's links are looked
                 up, to compare them with the client's checks. The shell hands in no message before
                 `verdict` and `looked_up`: messages after `authenticate` are handled after it.
    OPEN         authenticated: subscriptions, acks, commands; events are sent.
    REFRESHING   as OPEN, while another token is verified. Events are still sent.
    CLOSED       `goaway` was sent. Inputs change nothing and have no outputs.

Division of work: `lifetime` keeps the state, `incoming` parses messages, `subscriptions` decides about rights
and positions, `delivery` decides which events are sent next, `calls` makes commands, `liveness` keeps the
deadlines. This module handles messages and calls the others.
"""

from typing import NamedTuple

from huahuo.actors.plugins.actions import CONNECTION_ACTIONS
from huahuo.actors.plugins.calls import Reply
from huahuo.actors.plugins.principal import Principal
from huahuo.transport.protocol import incoming, plain_acks
from huahuo.transport.protocol.codes import CloseCode, ErrorCode
from huahuo.transport.protocol.dialects import Dialect
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.protocol.parts import ONLY, Part
from huahuo.transport.protocol.token_bucket import TokenBucket
from huahuo.transport.session import outgoing
from huahuo.transport.session.abandoned import only_asks
from huahuo.transport.session.calls import Calls
from huahuo.transport.session.delivery_states import DeliveryState
from huahuo.transport.session.lifetime import Lifetime
from huahuo.transport.session.outputs import Acked, Execute, LookUp, Now, Output, Record
from huahuo.transport.session.ports import RunLike
from huahuo.transport.session.replies import Replies
from huahuo.transport.session.shared import Shared
from huahuo.transport.session.state import State
from huahuo.transport.session.subscription import Subscription
from huahuo.transport.session.subscriptions import BEHIND
from huahuo.transport.words import en, zh

_AUTHENTICATED = (State.OPEN, State.REFRESHING)
_STRIKES = 10
"""The connection is closed when this many times the burst were refused above the rate."""


class FrameKind(NamedTuple):
    """Whether a snapshot's frame may be compressed, carries a check, and may hold a part of the state."""

    compressed: bool
    checked: bool
    in_parts: bool


class Session(Lifetime):
    """See the module. One per connection."""

    __slots__ = ("_bucket", "_calls", "_strikes", "ack_front", "acked_stream", "replies")

    def __init__(self, session_id: str, dialect: Dialect, shared: Shared, now: Now, root: str = "") -> None:
        """See `Lifetime`."""
        super().__init__(session_id, dialect, shared, now, root)
        settings = shared.settings
        self.replies = Replies(self._compression, settings.reply_bytes_max, self._speech)
        self._calls = Calls(session_id, shared.commands, shared.fingerprint_key, classic=not dialect.batched)
        rate, burst = settings.messages_per_s, settings.messages_burst
        self._bucket = TokenBucket(rate, burst, now.s)
        self._strikes = TokenBucket(rate, _STRIKES * burst, now.s)
        self.ack_front = b"{}"  # no ack begins so
        self.acked_stream = ""
        """The stream of the last ack of one stream."""

    @property
    def frame_kind(self) -> FrameKind:
        """The kind of snapshot frames for this connection."""
        return FrameKind(self._compression is not None, self._dialect.batched, self.parts)

    @property
    def full(self) -> bool:
        """Whether as many commands run as one connection may have."""
        return self._calls.outstanding >= self._shared.settings.commands_outstanding_max

    @property
    def busy(self) -> bool:
        """Whether no further message may be handed in.

        Then too many commands run, a token is verified, or links are looked up.
        """
        return (
            self._go_on is not None
            or self._state in (State.VERIFYING, State.REFRESHING)
            or self._calls.outstanding >= self._shared.settings.commands_outstanding_max
        )

    @property
    def owes(self) -> bool:
        """Whether a message that was handed in is not answered yet."""
        return self._calls.outstanding > 0 or self.busy

    @property
    def takes_more(self) -> bool:
        """Whether the next message may be handed in, and is not the first one of a connection."""
        return (
            self._state is State.OPEN
            and self._go_on is None
            and self._calls.outstanding < self._shared.settings.commands_outstanding_max
        )

    def tick(self, now: Now) -> list[Output]:
        """See `Lifetime`."""
        if self.busy:
            self.heard(now.s)  # While we are not reading, the client's silence does not count.
        return super().tick(now)

    # What happens: messages ------------------------------------------------------------------------

    def needless(self, data: str | bytes) -> bool:
        """Whether a message need not be handled now that the client is gone."""
        return self._state is State.OPEN and only_asks(data, self._calls.specs)

    def received(self, data: str | bytes, now: Now) -> list[Output]:
        """A message came."""
        self.heard(now.s)
        if self._state is State.CLOSED:
            return []
        assert self._state in (State.CONNECTED, State.OPEN), "a message was handed in before the verdict"
        assert self._go_on is None, "a message was handed in before `looked_up`"
        parsed = self._parse(data)
        if isinstance(parsed, Parsed) and parsed.action == "ack" and self._state is State.OPEN:
            return self._ack(parsed, now)
        if not self._bucket.take(now.s):
            return self._rate_limited(parsed.id, now)
        if isinstance(parsed, Invalid):
            return [self._speech.refusal(parsed)]
        if self._verified is not None and parsed.action not in CONNECTION_ACTIONS:
            return self._command(parsed, self._verified.principal)
        match parsed.action:
            case "authenticate":
                return self._authenticate(parsed)
            case "heartbeat":
                stamp = outgoing.timestamp(now.ms)
                return [outgoing.message(type="heartbeat_response", id=parsed.id, timestamp=stamp)]
            case "heartbeat_response":
                return []
        if self._verified is None:
            return [self._speech.error(ErrorCode.UNAUTHENTICATED, zh.SIGN_IN_FIRST, request_id=parsed.id)]
        if parsed.action == "subscribe":
            return self._subscribe(parsed, self._verified.principal)
        return self._readers.unsubscribe(parsed)  # the only one of CONNECTION_ACTIONS that is left

    def _parse(self, data: str | bytes) -> Parsed | Invalid:
        settings = self._shared.settings
        return incoming.parse(data, bytes_max=settings.message_bytes_max, depth_max=settings.json_depth_max)

    def _rate_limited(self, request_id: str | None, now: Now) -> list[Output]:
        if not self._strikes.take(now.s):
            return self.close(CloseCode.RATE_LIMITED, en.MESSAGES_TOO_LONG)
        return [self._speech.error(ErrorCode.RATE_LIMITED, zh.TOO_OFTEN, request_id=request_id)]

    def hold(self, stream: str) -> bool:
        """Send nothing more of `stream` until `judged`. False: it is not subscribed."""
        return self._state in _AUTHENTICATED and self._readers.judging.hold(stream)

    def judged(self, stream: str, *, readable: bool | None) -> list[Output]:
        """A verdict came that was pending in `looked_up`, or after `hold`. None: nobody can say it."""
        if self._state not in _AUTHENTICATED:
            return []
        return self._readers.judged(stream, readable=readable)

    def _subscribe(self, parsed: Parsed, principal: Principal) -> list[Output]:
        places = self._readers.unknown_of(parsed, principal)
        judge = self._readers.to_judge_of(parsed, principal)
        if not places and not judge:
            return self._readers.subscribe(parsed, principal, {})
        self._go_on = lambda links, verdicts, _now: (
            self.close(CloseCode.DRAINING, BEHIND)
            if self._readers.is_behind_of(parsed, links)
            else self._readers.subscribe(parsed, principal, links, verdicts)
        )
        return [LookUp(places, judge, principal)]

    def snapshot(
        self, sub: Subscription, seq: int, frame: bytes | None, *, more: bool = False
    ) -> list[Output]:
        """The state of `sub`'s stream after event `seq`, or a part of it, as a frame of `frame_kind`.

        It is dropped if the subscription has moved on. `frame` None: the state is too long.
        """
        return [] if self._state is State.CLOSED else self._readers.snapshot(sub, seq, frame, more=more)

    def awaits(self, sub: Subscription) -> bool:
        """Whether the state of `sub`'s stream is still wanted."""
        return self._state in _AUTHENTICATED and sub.state is DeliveryState.SNAPSHOT

    def refuse_snapshot(self, sub: Subscription, reason: str, retry_s: float | None = None) -> list[Output]:
        """See `Readers.refuse_snapshot`."""
        return [] if self._state is State.CLOSED else self._readers.refuse_snapshot(sub, reason, retry_s)

    def corrupt(self, sub: Subscription) -> list[Output]:
        """The data that `sub` needs is damaged on the disk: end this subscription only."""
        return [] if self._state is State.CLOSED else self._readers.corrupt(sub)

    # Acks and commands -----------------------------------------------------------------------------

    def acked_again(self, text: bytes, now_s: float) -> int:
        """A message came that may be an ack of `acked_stream`. The seq; -1: hand it to `acked`."""
        seq = plain_acks.seq_of_ack(text, self.ack_front)
        return seq if seq >= 0 and self.acked_up_to(seq, now_s) else -1

    def acked_up_to(self, seq: int, now_s: float) -> bool:
        """An ack of `acked_stream` came that begins with `ack_front`. False: as for -1 in `acked_again`."""
        if self._state is not State.OPEN or not self.delivery.ack(self.acked_stream, seq, now_s):
            return False
        self.liveness.heard_s = now_s
        return True

    def acked(self, data: bytes, now_s: float) -> list[Acked] | None:
        """A message came that may be a plain ack. None: hand it to `received`.

        An ack may overtake messages that wait to be received, because it only concerns events sent before.
        """
        if self._state is not State.OPEN:
            return None
        cursors = plain_acks.plain_ack(data)
        if cursors is None:
            return None
        if len(cursors) == 1:  # the usual case
            [(stream, seq)] = cursors.items()
            if not self.delivery.ack(stream, seq, now_s):
                return None
            self.liveness.heard_s = now_s
            self.acked_stream, self.ack_front = stream, plain_acks.front_of_ack(data, seq)
            return [Acked(stream, seq)]
        may_ack = self.delivery.may_ack
        for stream, seq in cursors.items():
            if not may_ack(stream, seq):
                return None
        self.heard(now_s)
        return self._readers.acks(cursors, now_s)

    def _ack(self, parsed: Parsed, now: Now) -> list[Output]:
        asked = incoming.convert(parsed, incoming.Acks)
        if isinstance(asked, Invalid):
            # A bad ack causes an answer, so it counts against the rate.
            counted = self._bucket.take(now.s)
            return [self._speech.refusal(asked)] if counted else self._rate_limited(parsed.id, now)
        acked = self._readers.acks(asked.cursors, now.s)
        outputs: list[Output] = [*acked]
        beyond = len(acked) < len(asked.cursors)
        if beyond and self._bucket.take(now.s):
            text = zh.BAD_ACK
            outputs.append(self._speech.error(ErrorCode.BAD_ACK, text, request_id=parsed.id))
        elif beyond:
            outputs += self._rate_limited(parsed.id, now)
        return outputs

    def _command(self, parsed: Parsed, principal: Principal) -> list[Output]:
        asked = self._calls.make(parsed, principal, self.client)
        if isinstance(asked, Invalid):
            return [self._speech.refusal(asked)]
        self.delivery.expect(asked.call.cause)
        return [asked]

    def internal(self, asked: Execute | Record, correlation_id: str) -> bytes:
        """What is said if a call cannot be answered because of a fault."""
        return self._speech.error(
            ErrorCode.INTERNAL, zh.INTERNAL, details=correlation_id, request_id=asked.request_id
        )

    def replied(
        self, asked: Execute | Record, reply: Reply, part: Part = ONLY, frame: bytes | None = None
    ) -> list[Output]:
        """A call was answered (`part`: the last part of the answer; `frame`: its finished frame).

        The events that the call caused may follow now.
        """
        self._calls.outstanding -= 1
        self.delivery.answered(asked.call.cause)
        if self._state is State.CLOSED:
            return []
        return self.replied_part(asked, reply, part, frame)

    def replied_part(
        self, asked: Execute | Record, reply: Reply, part: Part, frame: bytes | None = None
    ) -> list[Output]:
        """A part of the answer to a call; the last part goes to `replied`. An empty body was too long."""
        return [self.replies.framed(asked, reply, part) if frame is None else frame]

    # Delivery --------------------------------------------------------------------------------------

    def woken(self, stream: str) -> None:
        """The head of `stream` moved."""
        self.delivery.wake(stream)

    def take(self, stream: str, first: int, count: int, now_s: float) -> bool:
        """See `Delivery.take`."""
        return self._state in _AUTHENTICATED and self.delivery.take(stream, first, count, now_s)

    def next_read(self) -> Subscription | None:
        """The subscription to read next, from behind its `flow.sent`; None if there is none."""
        return self.delivery.next_read() if self._state in _AUTHENTICATED else None

    def read_events_max(self, sub: Subscription) -> int:
        """How many events to read for `sub`.

        Runs end at multiples of a number, so that readers that began at different positions soon reach the
        same one and share frames.
        """
        grid = self._shared.settings.frame_events_max
        return grid - sub.flow.sent % grid

    def page_events_max(self, sub: Subscription) -> int:
        """How many events to fetch for `sub` as a joined page: as `read_events_max`, on a wider grid."""
        grid = self._shared.settings.page_events_max
        return max(1, min(grid - sub.flow.sent % grid, self.delivery.window.credit))

    def took(self, sub: Subscription, run: RunLike, now_s: float) -> list[bytes]:
        """Frames of the run that was read for `sub`."""
        return self.delivery.took(sub, run, now_s) if self._state in _AUTHENTICATED else []

    def stalled(self, now_s: float) -> bytes | None:
        """No more events may be sent now. Returns a `lag` message if one is due."""
        if self._state is State.CLOSED:
            return None
        return self.delivery.lag(now_s, self._shared.settings.lag_interval_s)
