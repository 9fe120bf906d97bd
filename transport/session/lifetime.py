"""The life of a session: its state (see `session`), its tokens, its deadlines and its end. Pure."""

from collections.abc import Callable, Mapping
from functools import partial

from huahuo.actors.plugins.principal import Principal
from huahuo.transport.access.verified import NOT_NOW, AuthFailure, Verified
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import AUTH_CLOSES, AuthCode, CloseCode, ErrorCode
from huahuo.transport.protocol.dialects import Dialect
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.session.delivery import Delivery
from huahuo.transport.session.judging import Verdicts
from huahuo.transport.session.liveness import Liveness
from huahuo.transport.session.outputs import Close, LookUp, Now, Output, Verify
from huahuo.transport.session.planning import Links, Plan
from huahuo.transport.session.shared import Shared
from huahuo.transport.session.speech import Speech
from huahuo.transport.session.state import State, moved
from huahuo.transport.session.subscriptions import BEHIND, Readers
from huahuo.transport.words import en, zh


class Lifetime:
    """See the module. `Session` handles the messages."""

    __slots__ = (
        "_asked", "_compression", "_dialect", "_go_on", "_readers", "_root", "_shared", "_speech",
        "_state", "_verified", "client", "delivery", "id", "liveness", "parts", "user",
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
