"""One WebSocket as an actor: the shell around a session.

Plain acks are handled at the socket, as they come (`took`). The library's handler task hands every other
message to the actor, one at a time, and waits for room in its inbox, so back-pressure reaches TCP.

All other work is done by plain calls on the loop, between two messages: the fan-out hands in frames or wakes
the pump, answers come from their own tasks, and the hub's one timer calls `tick`. An idle connection keeps no
timer and no task except the handler's.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from enum import Enum
from functools import partial
from typing import Any, ClassVar, Self, cast

import msgspec
import structlog
from websockets.exceptions import ConnectionClosed

from huahuo.actors import ActorDeadError, AskTimeout, LoopActor, Runtime, ask
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.errors import EventStoreError
from huahuo.replay.live.feed import Feed
from huahuo.transport.access.door import Door
from huahuo.transport.access.verified import AuthFailure, Verified, Verifier
from huahuo.transport.commands.api import Reply
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import Dialect
from huahuo.transport.protocol.parts import ONLY, Part
from huahuo.transport.server.answer import QueryAnswer
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.server.notices import Notices
from huahuo.transport.server.ports import CommandGate, Hub, Meter
from huahuo.transport.server.pump import Pump, Supply, Tally
from huahuo.transport.server.web_socket import WebSocket
from huahuo.transport.session import outputs
from huahuo.transport.session.outputs import Now, Output
from huahuo.transport.session.session import Session
from huahuo.transport.session.shared import Shared

_REVOKED_DEADLINE_S = 0.5
"""The transport of a revoked client is aborted after this, so that its socket is closed within 1 s."""

_log = structlog.get_logger(__name__)


class _End(Enum):
    """Put into the inbox after a client's last message."""

    END = "end"


class Wires(msgspec.Struct, frozen=True, kw_only=True):
    """What every connection of a server uses."""

    shared: Shared
    runtime: Runtime
    ambient: Ambient
    feed: Feed
    fanout: FanOut
    hub: Hub
    door: Door
    gate: CommandGate
    verifier: Verifier
    meter: Meter
    supply: Supply
    tally: Tally
    notices: Notices


class Connection(LoopActor):
    """See the module. Implements `ports.LiveConnection`, `hub.HasCursors` and `web_socket.Listener`."""

    # Small, because each queued message may be as large as the message limit.
    inbox_limit: ClassVar[int] = 4

    def __init__(self, ws: WebSocket, dialect: Dialect, wires: Wires) -> None:
        super().__init__()
        self._ws = ws
        self._wires = wires
        self._session = Session(f"s-{wires.ambient.token(9)}", dialect, wires.shared, self._now())
        self._reads: set[asyncio.Task[None]] = set()
        self._commands: set[asyncio.Task[None]] = set()
        self._queries: set[asyncio.Task[None]] = set()
        self._free: asyncio.Future[None] | None = None
        self._slowed = False
        settings = wires.shared.settings
        self._pump = Pump(
            ws,
            self._session,
            feed=wires.feed,
            fanout=wires.fanout,
            ambient=wires.ambient,
            settings=settings,
            supply=wires.supply,
            tally=wires.tally,
            start=partial(_keep, self._reads),
            perform=self._carry_out,
            fail=self._break_off,
            change=self._change,
        )
        ws.bound_buffer(
            settings.write_buffer_bytes_max if dialect.batched else settings.classic_buffer_bytes_max
        )
        ws.listener = self
        wires.hub.opened(self)

    # What others call ------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """See `ports.LiveConnection`."""
        tally = self._wires.tally
        if tally.size_bytes:
            self._wires.meter.delivered(tally.events, tally.size_bytes)
            tally.events = tally.size_bytes = 0
        if self._slowed:
            self._session.heard(now_s)  # While we are not reading, the client's silence does not count.
        self._carry_out(self._session.tick(Now(now_s, self._wires.ambient.now_ms())))
        self._pump.retry()
        if self._pump.stuck(now_s, self._wires.shared.settings.unsent_stuck_s):
            self.close(CloseCode.TOO_SLOW, "nothing is read, and others need the memory")

    def wake_up(self, now_s: float) -> None:
        """See `ports.LiveConnection`."""
        self._carry_out(self._session.wake_up(Now(now_s, self._wires.ambient.now_ms())))
        self._pump.retry()

    def close(self, code: int, reason: str) -> None:
        """See `ports.LiveConnection`."""
        self._carry_out(self._session.close(CloseCode(code), reason))

    def cursors(self) -> Mapping[str, int]:
        """The last seq sent, per subscribed stream."""
        return self._session.delivery.cursors()

    @property
    def unacked(self) -> int:
        """Events that were sent and are not acknowledged."""
        return self._session.delivery.window.outstanding

    @property
    def heard_s(self) -> float:
        """When the client was heard last."""
        return self._session.heard_s

    def took(self, text: bytes) -> bool:
        """See `web_socket.Listener`. Nearly all messages are acks, and an ack needs no turn of the actor."""
        acked = self._session.acked(text, self._wires.ambient.monotonic_s())
        if acked is None:
            return False
        self._note(acked)
        if self._session.delivery.backlog:
            self._pump.run()
        return True

    def began(self, text: bytes) -> bool:
        """See `web_socket.Listener`. A connection's first message is handled at once: no other one waits.

        After a restart, thousands of sign-ins come at once. The way through the library and the inbox is a
        third of the cost of each.
        """
        try:
            message = text.decode()
        except UnicodeDecodeError:
            return False
        try:
            pending = self._handle(message)
        except Exception:  # noqa: BLE001  as in the actor: the client comes back on a new connection
            self.on_failure(*sys.exc_info())
        else:
            if pending is not None:
                _keep(self._queries, self._finish(pending))
        return True

    async def _finish(self, pending: Coroutine[Any, Any, None]) -> None:
        try:
            await pending
        except Exception:  # noqa: BLE001  as above
            self.on_failure(*sys.exc_info())

    def ponged(self) -> None:
        """See `web_socket.Listener`."""
        self._session.heard(self._wires.ambient.monotonic_s())

    def drained(self) -> None:
        """See `web_socket.Listener`."""
        self._pump.count_unsent()
        self._tell_free()
        self._pump.run()

    def disconnected(self) -> None:
        """See `web_socket.Listener`."""
        self._tell_free()

    @classmethod
    def open(cls, ws: WebSocket, dialect: Dialect, wires: Wires) -> Self:
        """Start the actor of a socket whose handshake is done. `read` must follow."""
        return cast("Self", wires.runtime.start(cls, ws, dialect, wires).actor_inbox.actor)

    async def read(self) -> None:
        """Hand every message to the actor until the connection is gone.

        Messages that came before the end are handled although their answers can no longer be sent: leaving
        does not cancel a command.
        """
        ref = self.actor_ref
        try:
            while True:
                await ref.tell_async(await self._ws.recv())
        except ConnectionClosed:
            with contextlib.suppress(ActorDeadError, AskTimeout):
                await ask(ref, _End.END)
        except ActorDeadError:
            pass
        finally:
            self._lost()
            ref.stop_now()

    # The actor: one message at a time ---------------------------------------------------------------

    def on_receive(self, message: str | bytes | _End) -> Coroutine[Any, Any, None] | None:
        """Handle a message of the client. A coroutine is returned if it must wait; the inbox waits too."""
        if message is _End.END:
            return None
        if self._session.busy or self._ws.paused or self._owes_time():
            return self._handle_when_free(message)
        return self._handle(message)

    def _owes_time(self) -> bool:
        principal = self._session.principal
        if principal is None:
            return False
        turns = self._wires.supply.turns
        wait_s = turns.shares.wait_s(principal.name, self._wires.ambient.monotonic_s())
        return wait_s > 0 or turns.crowded(principal.name)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """This server is at fault: close, so that the client comes back on a new connection."""
        _log.error("connection_failed", exc_info=(exception_type, exception_value, traceback))
        self._break_off("internal error")

    def _break_off(self, reason: str) -> None:
        self.close(CloseCode.SERVER_FAULT, reason)

    async def _handle_when_free(self, message: str | bytes) -> None:
        while (self._session.busy or self._ws.paused) and self._ws.is_open:
            await self._change()
        principal = self._session.principal
        if principal is not None:
            self._slowed = True
            try:
                await self._wires.supply.turns.fair(principal.name)
            finally:
                self._slowed = False
        pending = self._handle(message)
        if pending is not None:
            await pending

    def _handle(self, message: str | bytes) -> Coroutine[Any, Any, None] | None:
        now = self._now()
        asked = self._carry_out(self._session.received(message, now))
        if isinstance(asked, outputs.Verify):
            return self._verify(asked)
        if asked is not None:
            return self._look_up(asked)
        self._pump.run()  # an ack made room, a subscription began
        principal = self._session.principal
        if principal is not None:
            self._wires.supply.turns.charge_since(principal.name, now.s)
        return None

    def _verify(self, asked: outputs.Verify) -> Coroutine[Any, Any, None] | None:
        now = self._now()
        verdict = self._wires.verifier.verify(asked.token, now.ms)
        if isinstance(verdict, AuthFailure):
            self._wires.meter.authenticated(verdict.code)
            held_back = self._wires.notices.due("token_refused", now.s)
            if held_back is not None:
                _log.warning(
                    "token_refused",
                    code=verdict.code,
                    reason=verdict.reason,
                    address=self._ws.address,
                    more_held_back=held_back,
                )
            hold_s = self._wires.door.auth_failed(self._ws.address, now.s)
            if hold_s > 0:
                return self._hold_back(verdict, hold_s)
            return self._judge(verdict)
        self._wires.meter.authenticated("ok")
        return self._judge(verdict)

    async def _hold_back(self, verdict: AuthFailure, hold_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(hold_s):
                while self._ws.is_open:
                    await self._change()
        self._judge(verdict)

    async def _change(self) -> None:
        """Wait for the next happening that may let a waiting message go on."""
        if self._free is None:
            self._free = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._free)

    def _look_up(self, asked: outputs.LookUp) -> Coroutine[Any, Any, None] | None:
        """Look up links in memory, else in the store. A link that cannot be read stays unknown."""
        feed = self._wires.feed
        links = {place: link for place in asked.places if (link := feed.peek_link(*place))}
        if len(links) < len(asked.places):
            return self._look_up_in_store(asked)
        self._looked_up(links)
        return None

    async def _look_up_in_store(self, asked: outputs.LookUp) -> None:
        try:
            links = await self._wires.feed.links(asked.places)
        except EventStoreError:
            _log.warning("checks_not_compared", places=len(asked.places))
            links = {}
        self._looked_up(links)

    def _looked_up(self, links: Mapping[tuple[str, int], bytes]) -> None:
        self._carry_out(self._session.looked_up(links, self._now()))
        self._trust()
        self._tell_free()
        self._pump.run()

    def _trust(self) -> None:
        if self._session.principal is not None:
            self._ws.trust()

    def _judge(self, verdict: Verified | AuthFailure) -> Coroutine[Any, Any, None] | None:
        hub = self._wires.hub
        admitted = True
        if isinstance(verdict, Verified):
            client = self._session.joining
            if client is not None:
                admitted = hub.join(self, verdict, client)
            elif self._session.may_refresh(verdict):
                hub.refreshed(self, verdict)
        asked = self._carry_out(self._session.verdict(verdict, self._now(), admitted=admitted))
        self._trust()
        if isinstance(asked, outputs.LookUp):
            return self._look_up(asked)
        self._tell_free()
        self._pump.run()
        return None

    # Carrying out what the session says --------------------------------------------------------------

    def _carry_out(self, todo: Iterable[Output]) -> outputs.Verify | outputs.LookUp | None:
        """Carry out the outputs in order. `Verify` and `LookUp` are returned for the caller to do."""
        asked = None
        frames: list[bytes] = []  # written together: each write is a system call
        for one in todo:
            match one:
                case bytes():
                    frames.append(one)
                case outputs.Execute():
                    execute = partial(self._wires.gate.execute, one.call, one.spec)
                    if one.spec.query:
                        _keep(self._queries, self._answer(one, execute, behind=tuple(self._commands)))
                    else:
                        _keep(self._commands, self._answer(one, execute))
                case outputs.Record():
                    record = partial(self._wires.gate.record, one.call, one.reply)
                    _keep(self._commands, self._answer(one, record))
                case outputs.Acked():
                    self._note((one,))
                case outputs.Verify() | outputs.LookUp():
                    asked = one
                case outputs.Watch():
                    self._wires.meter.resumed(one.outcome)
                    self._pump.watch(one.stream)
                case outputs.Unwatch():
                    self._pump.unwatch(one.stream)
                case outputs.TakeSnapshot():
                    self._pump.take_snapshot(one.sub)
                case outputs.Alarm():
                    self._wires.meter.cursor_ahead()
                    _tell_alarm(one)
                case outputs.Close():
                    self._write(frames)
                    self._say_close(one)
        self._write(frames)
        return asked

    def _write(self, frames: list[bytes]) -> None:
        if frames:
            self._pump.write_all(frames)
            frames.clear()

    def _note(self, acked: Iterable[outputs.Acked]) -> None:
        principal = self._session.principal
        assert principal is not None, "an ack before any event was sent"
        for one in acked:
            self._wires.hub.note_ack(principal.name, self._session.client, one.stream, one.seq)

    async def _answer(
        self,
        asked: outputs.Execute | outputs.Record,
        work: Callable[[], Coroutine[Any, Any, Reply]],
        behind: Collection[asyncio.Task[None]] = (),
    ) -> None:
        """Answer a call. A query waits for the commands sent before it (`behind`), to show their effects."""
        try:
            if behind:
                await asyncio.wait(behind)
            if isinstance(asked, outputs.Execute) and asked.spec.query:
                query = QueryAnswer(
                    asked,
                    ws=self._ws,
                    session=self._session,
                    pump=self._pump,
                    supply=self._wires.supply,
                    settings=self._wires.shared.settings,
                    reply=self._reply,
                    perform=self._carry_out,
                    change=self._change,
                )
                await query.give(work)
                return
            reply = await work()
        except Exception:  # noqa: BLE001  the client comes back, the operator gets the log
            _log.exception("gate_failed", action=asked.call.action)
            self._break_off("internal error")
            return
        self._reply(asked, reply)

    def _reply(
        self,
        asked: outputs.Execute | outputs.Record,
        reply: Reply,
        part: Part = ONLY,
        frame: bytes | None = None,
    ) -> None:
        began_s = self._wires.ambient.monotonic_s()
        self._carry_out(self._session.replied(asked, reply, part, frame))
        self._tell_free()
        self._pump.run()
        self._wires.supply.turns.charge_since(asked.call.principal.name, began_s)

    # The end ------------------------------------------------------------------------------------------

    def _say_close(self, said: outputs.Close) -> None:
        settings = self._wires.shared.settings
        self._wires.meter.closed(said.code)
        at_once = said.code is CloseCode.REVOKED
        self._ws.end(said.code, said.reason, _REVOKED_DEADLINE_S if at_once else settings.close_timeout_s)
        self._leave()

    def _lost(self) -> None:
        """The socket is gone."""
        if not self._session.closed:
            self._wires.meter.closed(self._ws.close_code or CloseCode.LOST)
        self._session.gone()
        self._pump.gone()
        self._ws.listener = None
        self._leave()
        # Commands are not cancelled, so that one that has not begun yet is not lost.
        for task in (*self._reads, *self._queries):
            task.cancel()

    def _leave(self) -> None:
        """Leave the hub and stop reading for this connection."""
        self._wires.hub.leave(self)
        self._pump.stop()
        self._tell_free()

    def _tell_free(self) -> None:
        if self._free is not None:
            if not self._free.done():
                self._free.set_result(None)
            self._free = None

    def _now(self) -> Now:
        return Now(self._wires.ambient.monotonic_s(), self._wires.ambient.now_ms())


def _tell_alarm(alarm: outputs.Alarm) -> None:
    facts = {"stream": alarm.stream, "cursor": alarm.cursor, "head": alarm.head}
    if alarm.check_seq:
        _log.error("check_differs_from_log", check_seq=alarm.check_seq, **facts)
    else:
        _log.error("cursor_ahead_of_log", **facts)


def _keep(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    """Start `work` as a task, and keep a reference so that it is not garbage-collected."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
