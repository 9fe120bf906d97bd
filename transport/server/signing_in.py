"""What a connection does with a token or a new subscription, from the session's `Verify` or `LookUp` on.

A token is verified, its verdict may be held back, and the user is admitted. Then the links that the client
named are looked up, and rights that an application keeps are judged. A method returns a coroutine if it must
wait for one of these.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from huahuo.transport.access.verified import AuthFailure, Verdict, Verified
from huahuo.transport.server.connection_ref import ConnectionRef
from huahuo.transport.server.judged_tokens import note_verdict
from huahuo.transport.server.links import found_links
from huahuo.transport.server.socket import Socket
from huahuo.transport.server.wires import Wires
from huahuo.transport.session import outputs
from huahuo.transport.session.outputs import Now, Output
from huahuo.transport.session.session import Session

type _Then[T] = Callable[[T], Coroutine[Any, Any, None] | None]


class Shell(Protocol):
    """What signing in needs of the connection's actor."""

    def carry_out(self, todo: Iterable[Output]) -> outputs.Verify | outputs.LookUp | None:
        """Carry out outputs of the session. `Verify` and `LookUp` are returned for the caller to do."""
        ...

    def token_judged(self) -> None:
        """A token was accepted or refused."""
        ...

    def go_on(self) -> None:
        """Let go on what waited for the session, and send what may be sent."""
        ...

    async def change(self) -> None:
        """Wait for the connection's next happening."""
        ...

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that ends with the connection."""
        ...


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

    def do(self, asked: outputs.Verify | outputs.LookUp, now: Now) -> Coroutine[Any, Any, None] | None:
        """Do what the session asked for."""
        return self._verify(asked, now) if isinstance(asked, outputs.Verify) else self._look_up(asked, now)

    def hold(self, stream: str) -> None:
        """Send nothing more of `stream` until its readers have been judged again."""
        principal = self._session.principal
        if principal is not None and self._session.hold(stream):
            verdict = self._wires.verdicts.of(principal, stream)
            self._shell.start_task(self._judged_late(stream, verdict))

    def _verify(self, asked: outputs.Verify, now: Now) -> Coroutine[Any, Any, None] | None:
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
        if isinstance(asked, outputs.LookUp):
            return self._look_up(asked, now)
        self._shell.go_on()
        return None

    def _look_up(self, asked: outputs.LookUp, now: Now) -> Coroutine[Any, Any, None] | None:
        """Look up links in memory, else in the store. A link that cannot be read stays unknown."""
        if asked.judge:
            return self._look_up_and_judge(asked)
        feed = self._wires.feed
        links = {place: link for place in asked.places if (link := feed.peek_link(*place))}
        if len(links) < len(asked.places):
            return self._look_up_in_store(asked)
        self._looked_up(links, now=now)
        return None

    async def _look_up_in_store(self, asked: outputs.LookUp) -> None:
        self._looked_up(await found_links(self._wires.feed, asked.places))

    async def _look_up_and_judge(self, asked: outputs.LookUp) -> None:
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
