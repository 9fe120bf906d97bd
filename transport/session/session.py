"""The server's side of one connection, without I/O (PROTOCOL 3 to 6, 8, 10). Pure.

Inputs are method calls that say what happened and when. Outputs are values that say what to do, in order;
`bytes` among them are complete WebSocket frames to write. The session never waits, reads a clock or
touches a socket, so tests, the simulator and the real connection drive the same object.

There is one machine, `STATES`. Most messages change no state, so it has few transitions:

    CONNECTED    not authenticated. Only `authenticate` and heartbeats are accepted; ends after 10 s.
    VERIFYING    a token is being verified (the answer may be held back). Then the log's links are looked
                 up, to compare them with the client's checks. The shell hands in no message before
                 `verdict` and `looked_up`: messages after `authenticate` are handled after it.
    OPEN         authenticated: subscriptions, acks, commands; events are sent.
    REFRESHING   as OPEN, while another token is verified. Events are still sent.
    CLOSED       `goaway` was sent. Inputs change nothing and have no outputs.

Division of work: `Session` keeps the state, the tokens, the deadlines and the end; `incoming` parses
messages, `subscriptions` decides about rights and positions, `delivery` which events are sent next,
`calls` makes commands. Of a client that is gone, commands are carried out and acks kept; what only asks
for something is not (`only_asks`).
"""

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Final, NamedTuple

import msgspec

from huahuo.actors.plugins.actions import CONNECTION_ACTIONS, Action
from huahuo.actors.plugins.calls import Principal, Reply
from huahuo.transport.access.rights import NOT_NOW, AuthFailure, Verified
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import AUTH_CLOSES, AuthCode, CloseCode, ErrorCode
from huahuo.transport.protocol.dialects import Dialect
from huahuo.transport.protocol.flow_control import TokenBucket
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.protocol.kinds import ONLY, Part
from huahuo.transport.session import outgoing
from huahuo.transport.session.calls import Calls, Replies
from huahuo.transport.session.delivery import Delivery
from huahuo.transport.session.delivery_states import DeliveryState, Subscription
from huahuo.transport.session.interface import (
    Acked,
    AckedViews,
    Close,
    Execute,
    Follow,
    LookUp,
    Now,
    Output,
    Present,
    Record,
    RunLike,
    Shared,
    Unfollow,
    Verify,
)
from huahuo.transport.session.liveness import Liveness
from huahuo.transport.session.outgoing import Speech
from huahuo.transport.session.subscriptions import BEHIND, Links, Plan, Readers, Verdicts
from huahuo.transport.words import en, zh


class State(Enum):
    """See `huahuo.transport.session.session`."""

    CONNECTED = "connected"
    VERIFYING = "verifying"
    OPEN = "open"
    REFRESHING = "refreshing"
    CLOSED = "closed"


STATES: Mapping[State, Mapping[str, State]] = {
    State.CONNECTED: {"authenticate": State.VERIFYING, "close": State.CLOSED},
    State.VERIFYING: {"accepted": State.OPEN, "close": State.CLOSED},
    State.OPEN: {"authenticate": State.REFRESHING, "close": State.CLOSED},
    State.REFRESHING: {"accepted": State.OPEN, "close": State.CLOSED},
    State.CLOSED: {"close": State.CLOSED},
}
"""State, input, next state. Any other input is a fault of the shell."""


def moved(state: State, what: str) -> State:
    """The state after `what`, by the table."""
    following = STATES[state].get(what)
    if following is None:
        raise AssertionError(f"{what} in state {state.value}")
    return following


BYTES_MAX: Final = 4 << 10
"""A longer message is not looked at, and is handled: what only asks is short."""
_ASKING: Final = frozenset({"heartbeat", "heartbeat_response", "subscribe", "unsubscribe"})


class _Message(msgspec.Struct):
    action: str = ""


_message_of = msgspec.json.Decoder(_Message).decode


def only_asks(data: str | bytes, specs: Mapping[str, Action]) -> bool:
    """Whether this message changes nothing that outlives its connection. False also if it cannot be read."""
    if len(data) > BYTES_MAX:
        return False
    try:
        action = _message_of(data).action
    except (msgspec.DecodeError, UnicodeError):
        return False
    spec = specs.get(action)
    return action in _ASKING if spec is None else spec.query


_AUTHENTICATED = (State.OPEN, State.REFRESHING)
_STRIKES = 10
"""The connection is closed when this many times the burst were refused above the rate."""


class FrameKind(NamedTuple):
    """Whether a snapshot's frame may be compressed, carries a check, and may hold a part of the state."""

    compressed: bool
    checked: bool
    in_parts: bool


class Session:
    """See the module. One per connection."""

    __slots__ = (
        "_asked", "_bucket", "_calls", "_compression", "_dialect", "_follows", "_go_on", "_readers", "_root",
        "_shared",
        "_speech", "_state", "_strikes", "_verified", "ack_front", "acked_stream", "client", "delivery",
        "id", "liveness", "parts", "replies", "user",
    )  # fmt: skip

    def __init__(self, session_id: str, dialect: Dialect, shared: Shared, now: Now, root: str = "") -> None:
        """`root`: the path below which the client finds the service's pages."""
        settings = shared.settings
        self.id = session_id
        self._shared = shared
        self._root = root
        self._dialect = dialect
        self._state: State = State.CONNECTED
        self.liveness = Liveness(settings, dialect, now.s)
        self._verified: Verified | None = None
        self._asked: tuple[incoming.Authenticate, str | None] | None = None
        self._go_on: Callable[[Links, Verdicts, Now], list[Output]] | None = None  # after `looked_up`
        self.client = ""
        """The id of the client installation; "" if the client gave none."""
        self.user = ""
        """The authenticated user's name, `user/42`; "" before authentication."""
        self.parts = False
        """Whether long messages may come in parts."""
        self._compression = shared.compression if dialect.compressed else None
        language = None if dialect.classic else shared.language
        self._speech = Speech(shared.words, language or "zh", language or "en")
        self.delivery = Delivery(
            shared.log,
            shared.frames,
            batched=dialect.batched,
            window=settings.window,
            past_max=settings.subscriptions_max,
            framer=shared.event_texts if dialect.event_texts else self._compression,
        )
        self._readers = Readers(shared, self.delivery, self._speech, own_streams=dialect.own_streams)
        settings = shared.settings
        self.replies = Replies(self._compression, settings.reply_bytes_max, self._speech)
        self._calls = Calls(session_id, shared.commands, shared.fingerprint_key, classic=not dialect.batched)
        rate, burst = settings.messages_per_s, settings.messages_burst
        self._follows = 0
        self._bucket = TokenBucket(rate, burst, now.s)
        self._strikes = TokenBucket(rate, _STRIKES * burst, now.s)
        self.ack_front = b"{}"  # no ack begins so
        self.acked_stream = ""
        """The stream of the last ack of one stream."""

    @property
    def state(self) -> State:
        """The state of the machine."""
        return self._state

    @property
    def closed(self) -> bool:
        """Whether the connection was closed or lost."""
        return self._state is State.CLOSED

    @property
    def principal(self) -> Principal | None:
        """The authenticated user; None before authentication."""
        return self._verified.principal if self._verified else None

    @property
    def joining(self) -> str | None:
        """While a first token is verified: the client installation that wants to join. Else None."""
        if self._state is State.VERIFYING and self._asked is not None:
            return self._asked[0].client or ""
        return None

    def may_refresh(self, verified: Verified) -> bool:
        """Whether the token being verified may replace this session's."""
        principal = self.principal
        return (
            self._state is State.REFRESHING
            and principal is not None
            and (principal.user_id == verified.principal.user_id)
        )

    def heard(self, now_s: float) -> None:
        """A message or a pong came from the client."""
        self.liveness.heard_s = now_s

    # What the token says ---------------------------------------------------------------------------

    def _authenticate(self, parsed: Parsed) -> list[Output]:
        asked = incoming.convert(parsed, incoming.Authenticate)
        if isinstance(asked, Invalid):
            return [self._speech.refusal(asked)]
        self._move("authenticate")
        self._asked = (asked, parsed.id)
        if asked.language is not None and not self._dialect.classic:
            self._speech.speak(asked.language)
        return [Verify(asked.token)]

    def verdict(self, verdict: Verified | AuthFailure, now: Now, *, admitted: bool = True) -> list[Output]:
        """The token was checked. `admitted`, for a first token: whether the user may have one more."""
        if self._state is State.CLOSED or self._asked is None:
            return []
        asked, request_id = self._asked
        self._asked = None
        if isinstance(verdict, AuthFailure):
            if verdict.code == NOT_NOW:
                return self._not_now(request_id)
            code = AUTH_CLOSES[AuthCode(verdict.code)]
            return [self._speech.authentication_failed(verdict), *self.close(code, verdict.code)]
        if not admitted:
            return self.close(CloseCode.TOO_MANY_CONNECTIONS, en.CONNECTIONS_OF_USER)
        known = self.principal
        if known is None:
            resume = asked.resume or incoming.Resume()
            plan = self._readers.plan(verdict.principal, resume)
            if not plan.places and not plan.judge:
                return self._open(asked, verdict, plan, None, {}, now)
            self._go_on = partial(self._open, asked, verdict, plan)
            return [LookUp(plan.places, plan.judge, verdict.principal)]
        self._move("accepted")
        if known.user_id != verdict.principal.user_id:
            return [self._speech.error(ErrorCode.USER_MISMATCH, zh.OTHER_USER, request_id=request_id)]
        judge = self._readers.judging.subscribed(verdict.principal)
        if judge:
            self._go_on = lambda _links, verdicts, later: self._refresh(verdict, verdicts, later)
            return [LookUp((), judge, verdict.principal)]
        return self._refresh(verdict, {}, now)

    def _not_now(self, request_id: str | None) -> list[Output]:
        """Nobody can judge the token now. What holds with the old one goes on."""
        if self._verified is None:
            return self.close(CloseCode.SERVER_FAULT, en.NOBODY_NOW)
        self._move("accepted")
        return [self._speech.error(ErrorCode.UNAVAILABLE, zh.NOT_JUDGED_NOW, request_id=request_id)]

    def looked_up(self, links: Links, now: Now, verdicts: Verdicts | None = None) -> list[Output]:
        """The links that a `LookUp` named, and the verdicts; those that could not be found are missing."""
        go_on, self._go_on = self._go_on, None
        return [] if self._state is State.CLOSED or go_on is None else go_on(links, verdicts or {}, now)

    def _open(
        self,
        asked: incoming.Authenticate,
        verified: Verified,
        plan: Plan,
        links: Links | None,
        verdicts: Verdicts,
        now: Now,
    ) -> list[Output]:
        self._move("accepted")
        self._verified = verified
        self.user = plan.user
        self.client = asked.client or ""
        self.parts = asked.parts
        if asked.window is not None:
            self.delivery.window.size = min(asked.window, self._shared.settings.window_max)
        if self._readers.is_behind(plan, links or {}):
            return self.close(CloseCode.DRAINING, BEHIND)
        streams, begun = self._readers.open(plan, links, verdicts)
        return [self._result(verified, streams), *begun, *self._warning(now)]

    def _refresh(self, verified: Verified, verdicts: Verdicts, now: Now) -> list[Output]:
        self._verified = verified
        self.liveness.renewed()
        streams, lost = self._readers.renew(verified.principal, verdicts)
        return [self._result(verified, streams), *lost, *self._warning(now)]

    def _result(self, verified: Verified, streams: Mapping[str, Mapping[str, object]]) -> bytes:
        return self._speech.authenticated(
            verified,
            session=self.id,
            log=self._shared.log.log_id,
            heartbeat_s=self._shared.settings.heartbeat_s,
            window=self.delivery.window.size if self._dialect.batched else None,
            streams=streams,
            dictionary=self._compression.announced(self._root) if self._compression else None,
        )

    # Time and end ----------------------------------------------------------------------------------

    def quiet_until_s(self, now: Now) -> float:
        """Before then `tick` finds nothing, if the session is not busy and gets no other token.

        The wall clock must not be set meanwhile, and the connection must not join a pace.
        """
        delivery = self.delivery
        left_ms = self._verified.expires_at_ms - now.ms if self._verified is not None else None
        return self.liveness.quiet_until_s(now.s, delivery.unacked_since_s, left_ms, paced=delivery.paced)

    def tick(self, now: Now) -> list[Output]:
        """Check the deadlines. Called about once a second, unless it is quiet."""
        if self.busy:
            self.heard(now.s)  # While we are not reading, the client's silence does not count.
        if self._state is State.CLOSED:
            return []
        overdue = self.liveness.overdue(
            now.s,
            connected=self._state is State.CONNECTED,
            unacked_since_s=self.delivery.unacked_since_s,
        )
        if overdue is not None:
            return self.close(*overdue)
        return self._due(now)

    def wake_up(self, now: Now) -> list[Output]:
        """Replaces a `tick` after the process slept: sockets were not read, so no client is late yet."""
        if self._state is State.CLOSED:
            return []
        self.liveness.wake_up(now.s)
        return self._due(now)

    def _due(self, now: Now) -> list[Output]:
        """What is due whatever the client sent: the end of its token, pings."""
        if self._verified is not None and self._verified.expires_at_ms <= now.ms:
            return self.close(CloseCode.TOKEN_EXPIRED, en.TOKEN_ENDED)
        return [*self._warning(now), *self.liveness.pings(now)]

    def _warning(self, now: Now) -> list[bytes]:
        return self.liveness.warnings(self._verified.expires_at_ms - now.ms) if self._verified else []

    def close(self, code: CloseCode, reason: str) -> list[Output]:
        """End the connection from this side: `goaway`, then the close."""
        if self._state is State.CLOSED:
            return []
        self._move("close")
        said = self._dialect.close_code(code)
        return [self._speech.goaway(said, reason, self._shared.leaving()), Close(said, reason)]

    def gone(self) -> None:
        """The connection is lost: no more messages can be sent."""
        self._move("close")

    def _move(self, what: str) -> None:
        self._state = moved(self._state, what)
        if self._state is State.CLOSED:
            self.delivery.end()

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
        if not self._is_early_follow(parsed) and not self._bucket.take(now.s):
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
        if parsed.action == "follow":
            follow = incoming.convert(parsed, incoming.Follow)
            return [
                self._speech.refusal(follow) if isinstance(follow, Invalid) else Follow(follow, parsed.id)
            ]
        if parsed.action == "present":
            present = incoming.convert(parsed, incoming.Present)
            if isinstance(present, Invalid):
                return [self._speech.refusal(present)]
            return [Present(present.view, present.data, parsed.id)]
        if parsed.action == "unfollow":
            unfollow = incoming.convert(parsed, incoming.Unfollow)
            if isinstance(unfollow, Invalid):
                return [self._speech.refusal(unfollow)]
            return [Unfollow(unfollow.view, parsed.id)]
        return self._readers.unsubscribe(parsed)  # the only one of CONNECTION_ACTIONS that is left

    def _is_early_follow(self, parsed: Parsed | Invalid) -> bool:
        """Whether it is one of the first `follow`s, which a page sends all at once: they are not counted."""
        if isinstance(parsed, Invalid) or parsed.action != "follow" or self._verified is None:
            return False
        self._follows += 1
        return self._follows <= self._shared.settings.subscriptions_max

    def _parse(self, data: str | bytes) -> Parsed | Invalid:
        settings = self._shared.settings
        return incoming.parse(data, bytes_max=settings.message_bytes_max, depth_max=settings.json_depth_max)

    def _rate_limited(self, request_id: str | None, now: Now) -> list[Output]:
        if not self._strikes.take(now.s):
            return self.close(CloseCode.RATE_LIMITED, en.MESSAGES_TOO_LONG)
        return [self._speech.error(ErrorCode.RATE_LIMITED, zh.TOO_OFTEN, request_id=request_id)]

    @property
    def acks(self) -> bool:
        """Whether its client can ack. A reader of server-sent events says nothing after its request."""
        return not self._dialect.event_texts

    def refusal(self, code: ErrorCode, text: str, details: str, request_id: str | None) -> bytes:
        """An error in the client's language."""
        return self._speech.error(code, text, details=details, request_id=request_id)

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
        seq = incoming.seq_of_ack(text, self.ack_front)
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
        cursors = incoming.plain_ack(data)
        if cursors is None:
            return None
        if len(cursors) == 1:  # the usual case
            [(stream, seq)] = cursors.items()
            if not self.delivery.ack(stream, seq, now_s):
                return None
            self.liveness.heard_s = now_s
            self.acked_stream, self.ack_front = stream, incoming.front_of_ack(data, seq)
            return [Acked(stream, seq)]
        may_ack = self.delivery.may_ack
        for stream, seq in cursors.items():
            if not may_ack(stream, seq):
                return None
        self.heard(now_s)
        return self._readers.acks(cursors, now_s)

    def _ack(self, parsed: Parsed, now: Now) -> list[Output]:
        asked: incoming.ViewAcks | incoming.Acks | Invalid
        if "views" in parsed.fields:
            asked = incoming.convert(parsed, incoming.ViewAcks)
        else:
            asked = incoming.convert(parsed, incoming.Acks)
        if isinstance(asked, Invalid):
            # A bad ack causes an answer, so it counts against the rate.
            counted = self._bucket.take(now.s)
            return [self._speech.refusal(asked)] if counted else self._rate_limited(parsed.id, now)
        acked = self._readers.acks(asked.cursors, now.s)
        outputs: list[Output] = [*acked]
        if isinstance(asked, incoming.ViewAcks):
            outputs.append(AckedViews(asked.views))
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
