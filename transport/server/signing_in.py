"""What a connection does with a token or a new subscription, from the session's `Verify` or `LookUp` on.

A token is verified, its verdict may be held back, and the user is admitted. Then the links of the hash
chain that the client's checks are compared with are looked up, and rights that an application keeps are
judged. A method returns a coroutine if it must wait for one of these.

Verdicts are counted and logged on every way in (`note_verdict`). The operator is told of clients that know
events which the log does not hold, and of those that were refused.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from huahuo.eventstore.errors import EventStoreError
from huahuo.replay.feed import Feed
from huahuo.transport.access.door import Notices
from huahuo.transport.access.rights import NOT_NOW, AuthFailure, Verdict, Verified
from huahuo.transport.server.pump import Shell
from huahuo.transport.server.wires import Wires
from huahuo.transport.session import interface
from huahuo.transport.session.interface import Alarm, Now
from huahuo.transport.session.session import Session
from huahuo.transport.wire.connection_ref import ConnectionRef
from huahuo.transport.wire.ports import Socket

BEYOND = b""
"""Instead of the link of an event that is not in the log."""
_log = structlog.get_logger(__name__)


async def found_links(feed: Feed, places: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
    """The links at these (stream, seq), from the store. One that cannot be read stays unknown.

    Where other nodes write the log, a place beyond the head here is waited for. It is in the answer, with
    `BEYOND`, if it is beyond the head of the log itself.
    """
    try:
        settled = feed.catch_up is None or await feed.catch_up(places)
        found = await feed.links(places)
        if not settled or feed.catch_up is None:
            return found
        return dict.fromkeys(places, BEYOND) | found
    except EventStoreError:
        _log.warning("checks_not_compared", places=len(places))
        return {}


def tell_alarm(alarm: Alarm) -> None:
    """Log that history was lost, or that it is not what the client saw."""
    facts = {"stream": alarm.stream, "cursor": alarm.cursor, "head": alarm.head}
    if alarm.check_seq:
        _log.error("check_differs_from_log", check_seq=alarm.check_seq, **facts)
    else:
        _log.error("cursor_ahead_of_log", **facts)


def tell_refused(failure: AuthFailure, address: str, notices: Notices, now_s: float) -> None:
    """Log why a token was refused, at the rate that `notices` allows."""
    held_back = notices.due("token_refused", now_s)
    if held_back is not None:
        _log.warning(
            "token_refused",
            code=failure.code,
            reason=failure.reason,
            address=address,
            more_held_back=held_back,
        )


def note_verdict(wires: Wires, verdict: Verdict, address: str) -> float | Awaitable[float]:
    """Note it; returns the seconds for which its answer is to be held back."""
    if not isinstance(verdict, AuthFailure):
        wires.meter.authenticated("ok")
        return 0.0
    wires.meter.authenticated(verdict.code)
    now_s = wires.ambient.monotonic_s()
    tell_refused(verdict, address, wires.notices, now_s)
    return 0.0 if verdict.code == NOT_NOW else wires.door.auth_failed(address, now_s)


type _Then[T] = Callable[[T], Coroutine[Any, Any, None] | None]


class SigningIn:
    """See the module. It has no state: the connection makes one when it needs it."""

    __slots__ = ("_ref", "_session", "_shell", "_wires", "_ws")

    def __init__(
        self, shell: Shell, ref: ConnectionRef, *, ws: Socket, session: Session, wires: Wires
    ) -> None:
        self._shell = shell
        self._ref = ref
        self._ws = ws
        self._session = session
        self._wires = wires

    def do(self, asked: interface.Verify | interface.LookUp, now: Now) -> Coroutine[Any, Any, None] | None:
        """Do what the session asked for."""
        return self._verify(asked, now) if isinstance(asked, interface.Verify) else self._look_up(asked, now)

    def hold(self, stream: str) -> None:
        """Send nothing more of `stream` until its readers have been judged again."""
        principal = self._session.principal
        if principal is not None and self._session.hold(stream):
            verdict = self._wires.verdicts.of(principal, stream)
            self._shell.start_task(self._judged_late(stream, verdict))

    def _verify(self, asked: interface.Verify, now: Now) -> Coroutine[Any, Any, None] | None:
        verdict = self._wires.verifier.verify(asked.token, now.ms)
        if not isinstance(verdict, Verified | AuthFailure):
            return self._later(verdict, self._tell_verdict)
        return self._tell_verdict(verdict, now)

    async def _later[T](self, fact: Awaitable[T], then: _Then[T]) -> None:
        pending = then(await fact)
        if pending is not None:
            await pending

    def _tell_verdict(self, verdict: Verdict, now: Now | None = None) -> Coroutine[Any, Any, None] | None:
        hold_s = note_verdict(self._wires, verdict, self._ws.address)
        return self._judge(verdict, now) if hold_s == 0.0 else self._hold_back(verdict, hold_s)

    async def _hold_back(self, verdict: Verdict, hold_s: float | Awaitable[float]) -> None:
        if not isinstance(hold_s, float):
            hold_s = await hold_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(hold_s):
                while hold_s > 0 and self._ws.is_open:
                    await self._shell.change()
        if (pending := self._judge(verdict)) is not None:
            await pending

    def _judge(
        self, verdict: Verified | AuthFailure, now: Now | None = None
    ) -> Coroutine[Any, Any, None] | None:
        hub = self._wires.hub
        admitted: bool | Awaitable[bool] = True
        if isinstance(verdict, Verified):
            client = self._session.joining
            if client is not None:
                admitted = hub.join(self._ref, verdict, client)
            elif self._session.may_refresh(verdict):
                hub.refreshed(self._ref, verdict)
        if isinstance(admitted, bool):
            return self._admit(verdict, admitted, now)
        return self._later(admitted, partial(self._admit, verdict))

    def _admit(
        self, verdict: Verdict, admitted: bool, now: Now | None = None
    ) -> Coroutine[Any, Any, None] | None:
        now = now or self._now
        asked = self._shell.carry_out(self._session.verdict(verdict, now, admitted=admitted))
        self._shell.token_judged()
        if isinstance(asked, interface.LookUp):
            return self._look_up(asked, now)
        self._shell.go_on()
        return None

    def _look_up(self, asked: interface.LookUp, now: Now) -> Coroutine[Any, Any, None] | None:
        """Look up links in memory, else in the store. A link that cannot be read stays unknown."""
        if asked.judge:
            return self._look_up_and_judge(asked)
        feed = self._wires.feed
        links = {place: link for place in asked.places if (link := feed.peek_link(*place))}
        if len(links) < len(asked.places):
            return self._look_up_in_store(asked)
        self._looked_up(links, now=now)
        return None

    async def _look_up_in_store(self, asked: interface.LookUp) -> None:
        self._looked_up(await found_links(self._wires.feed, asked.places))

    async def _look_up_and_judge(self, asked: interface.LookUp) -> None:
        principal = asked.principal
        assert principal is not None, "only a user's right is judged"
        # The links first: where they wait for other nodes, the entities that are asked are there afterwards.
        links = await found_links(self._wires.feed, asked.places) if asked.places else {}
        verdicts, late = await self._wires.verdicts.in_time(principal, asked.judge)
        self._looked_up(links, verdicts)
        for stream, verdict in late.items():
            self._shell.start_task(self._judged_late(stream, verdict))

    async def _judged_late(self, stream: str, verdict: Awaitable[bool | None]) -> None:
        readable = await verdict

        def step() -> None:
            self._shell.carry_out(self._session.judged(stream, readable=readable))
            self._shell.go_on()

        self._ref.step(step)

    def _looked_up(
        self,
        links: Mapping[tuple[str, int], bytes],
        verdicts: Mapping[str, bool | None] | None = None,
        *,
        now: Now | None = None,
    ) -> None:
        self._shell.carry_out(self._session.looked_up(links, now or self._now, verdicts))
        self._shell.token_judged()
        self._shell.go_on()

    @property
    def _now(self) -> Now:
        return Now(self._wires.ambient.monotonic_s(), self._wires.ambient.now_ms())
