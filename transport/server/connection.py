"""One WebSocket as an actor: the shell around a session.

The socket offers every message of its client (`on_receive`). Those that cannot be handled yet stay at the
socket, so back-pressure reaches TCP, and whatever they waited for calls `go_on` of the socket. All else comes
through the door for urgent messages, as methods of `ConnectionRef`: plain acks at the socket, ticks of the
hub's one timer, and the steps of the tasks that make answers and fetch events. Such a step may come while
a message is being handled. Only the fan-out calls without the door: it hands in frames that many
connections share (`Delivery.take`, ADR 3). An idle connection keeps no timer and no task.

`PlaceInLine`: the users share the loop (`fair_queueing`). What a user's share does not allow at once stands
in line here. Before a client has authenticated it has no user, and waits for nobody.

`QuickAcks` takes the acks that the part in C has read, to the session in one step (ADR 13).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, Final

import structlog

from huahuo.actors import LoopActor, LoopRef
from huahuo.actors.actor.inbox import IDLE
from huahuo.transport.access.rights import AuthFailure, Verdict, Verified
from huahuo.transport.load.fair_queueing import CHARGED_S, CROWDED_S, FEW, Place, Turns
from huahuo.transport.load.intake import Load
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import Dialect
from huahuo.transport.server.answering import Answering
from huahuo.transport.server.following import Following
from huahuo.transport.server.pump import Pump
from huahuo.transport.server.signing_in import found_links, note_verdict, tell_alarm
from huahuo.transport.server.snapshots import Supply
from huahuo.transport.server.wires import Wires
from huahuo.transport.session import interface
from huahuo.transport.session.interface import Now, Output
from huahuo.transport.session.session import Session
from huahuo.transport.wire.connection_ref import (
    Batch,
    Close,
    ConnectionEnded,
    ConnectionRef,
    Fault,
    Signal,
    Tick,
    WakeUp,
)
from huahuo.transport.wire.ports import Socket
from huahuo.transport.wire.web_socket import ACK
from huahuo.transport.words import en


class QuickAcks:
    """Acks that differ from the connection's last one in the number only, read by the part in C.

    One per connection, made when it is first of use.
    """

    __slots__ = ("_hub", "_inbox", "_pump", "_ref", "_session", "_shell")

    def __init__(
        self, shell: "Connection", ref: ConnectionRef, *, session: Session, pump: Pump, wires: Wires
    ) -> None:
        self._shell = shell
        self._ref = ref
        self._inbox = ref.actor_inbox
        self._session = session
        self._pump = pump
        self._hub = wires.hub

    @property
    def front(self) -> bytes:
        """See `ports.TakesAcks`."""
        return self._session.ack_front

    def acked(self, seq: int, now_s: float) -> bool:
        """See `ports.TakesAcks`. A fault ends the connection as any other of its faults does."""
        inbox, session = self._inbox, self._session
        if inbox.state != IDLE or inbox.entered or inbox.stopped is True:
            return False
        failed: Exception | None = None
        inbox.entered = True  # as the runtime has it while a handler is on the stack
        try:
            if not session.acked_up_to(seq, now_s):
                return False
            self._hub.note_ack(session.user, session.client, session.acked_stream, seq)
            if not self._shell.rests_until_s and session.delivery.backlog:
                self._pump.run()
        except Exception as error:  # noqa: BLE001  told below
            failed = error
        finally:
            inbox.entered = False
        if failed is not None:
            self._ref.fault(failed)
        return True


_REVOKED_DEADLINE_S: Final = 0.5
"""The transport of a revoked client is aborted after this, so that its socket is closed within 1 s."""
_AT_ONCE_S: Final = 0.002
"""How long one connection's messages are handled at once; the last one may take longer."""


class PlaceInLine:
    """When the messages of one connection are handled, and the loop's time that is charged for them.

    The small sums of time that are not charged yet are kept: a charge costs 2 µs.
    """

    __slots__ = ("_paid", "_session", "_shell", "_spent_s", "_turns", "_ws", "waits")

    def __init__(self, shell: "Connection", supply: Supply, *, ws: Socket, session: Session) -> None:
        self._shell = shell
        self._turns = supply.turns
        self._ws = ws
        self._session = session
        self._spent_s = 0.0
        self.waits = False
        """Messages at the socket wait for the user's turn, or until it owes less."""
        self._paid = False
        """It has waited for that: the next message is handled whatever is owed."""

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits, and all time is charged."""
        return not (self._spent_s or self.waits)

    def may_begin(self, count: int) -> bool:
        """Whether the first of `count` messages may be handled now. If not, they stand in line."""
        user = self._session.user
        if not user:
            return True
        if self.waits:
            return False
        if not self._turns.rounds.may_begin(user):
            self._stand_in_line(user, short=count <= FEW)
        elif not self._paid and self._turns.must_wait(user):
            self._wait_until_paid(user)
        else:
            self._paid = False
        return not self.waits

    def wait_again(self) -> None:
        """This turn has handled its part of the messages."""
        if user := self._session.user:
            self._stand_in_line(user, short=False)

    def _stand_in_line(self, user: str, *, short: bool) -> None:
        self.waits = True
        self._shell.stir()
        self._turns.rounds.wait(user, self._go_on, short=short)

    def _wait_until_paid(self, user: str) -> None:
        self.waits = True
        self._shell.stir()
        loop = asyncio.get_running_loop()
        if self._turns.crowded(user):  # the line moves often
            loop.call_later(CROWDED_S, self._go_on)
        else:
            self._turns.work.stand(user, self._has_paid)

    def _has_paid(self, place: Place) -> None:
        self._paid = True
        loop = asyncio.get_running_loop()
        loop.call_soon(self._go_on)
        loop.call_soon(place.leave)  # it is charged before

    def _go_on(self) -> None:
        self.waits = False
        self._ws.go_on()

    # The bill -----------------------------------------------------------------------------------------

    def charge(self, began_s: float, now_s: float) -> None:
        """The loop's time from `began_s` until `now_s` was spent for the user."""
        if self._session.user:
            self._spent_s += now_s - began_s
            if self._spent_s > CHARGED_S:
                self.settle(now_s)

    def settle(self, now_s: float) -> None:
        """Charge what is not charged."""
        if self._spent_s and self._session.user:
            spent_s, self._spent_s = self._spent_s, 0.0
            self._turns.charge(self._session.user, spent_s, now_s)


_log = structlog.get_logger(__name__)


class Connection(LoopActor):
    """See the module. Others hold its `ConnectionRef`, by which its tasks' results and faults come.

    Implements `pump.Shell`.
    """

    _actor_ref: ConnectionRef

    ref_class: ClassVar[type[LoopRef[Any]]] = ConnectionRef

    def __init__(self, ws: Socket, dialect: Dialect, wires: Wires) -> None:
        super().__init__()
        # Also the places of those that have no task yet. An idle connection has none.
        self._tasks: set[asyncio.Task[None] | Place] | None = None
        self._free: asyncio.Future[None] | None = None
        self._ws = ws
        self._wires = wires
        self._session = Session(
            f"s-{wires.ambient.token(9)}", dialect, wires.shared, self._now(), root=ws.root
        )
        self.rests_until_s = 0.0
        """Before then a tick finds nothing to do. 0: it may find something."""
        self.quick_acks: QuickAcks | None = None
        """Set while the last ack was like the one before it."""
        self._acks: QuickAcks | None = None
        self.place = PlaceInLine(self, wires.supply, ws=ws, session=self._session)
        """When its messages are handled."""
        settings = wires.shared.settings
        self._pump = Pump(self, self._actor_ref, ws=ws, session=self._session, wires=wires)
        self._answers: Answering | None = None
        self._lists: Following | None = None
        ws.bound_buffer(
            settings.write_buffer_bytes_max if dialect.batched else settings.classic_buffer_bytes_max
        )
        ws.listener = self._actor_ref
        wires.hub.opened(self._actor_ref)

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """See `pump.Shell`. The task's steps come by the door, so it must not begin in this call."""
        self._start(work)

    def start_in_turn(
        self, turns: Turns, user: str, work: Callable[[Place | None], Coroutine[Any, Any, None]]
    ) -> None:
        """See `pump.Shell`."""
        place = turns.stand_in_line(user, partial(self._begin_in_turn, work))
        if place is None:
            self._start(work(None))
        elif place.waits:
            self._keep(place)

    def _begin_in_turn(self, work: Callable[[Place | None], Coroutine[Any, Any, None]], place: Place) -> None:
        self._drop(place)
        # A task that is cancelled before it begins does not leave the place by itself.
        self._start(work(place)).add_done_callback(place.leave)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.Task(work, loop=asyncio.get_running_loop())
        self._keep(task)  # else it might be garbage-collected
        task.add_done_callback(self._ended)
        return task

    def _keep(self, waiting: asyncio.Task[None] | Place) -> None:
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(waiting)

    def _cancel_tasks(self) -> None:
        """The client is gone: nobody waits for its answers, events and snapshots.

        Commands are no tasks: one that has not begun is not lost.
        """
        for one in tuple(self._tasks or ()):
            if isinstance(one, Place):
                self._drop(one)
            one.cancel()

    async def change(self) -> None:
        """See `pump.Shell`: a waiting message may then go on."""
        self._free = self._free or asyncio.get_running_loop().create_future()
        await asyncio.shield(self._free)

    def _tell_free(self) -> None:
        """A waiting message may go on."""
        free, self._free = self._free, None
        if free is not None and not free.done():
            free.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._drop(task)
        fault = None if task.cancelled() else task.exception()
        if isinstance(fault, Exception) and not isinstance(fault, ConnectionEnded):
            self._actor_ref.fault(fault)

    def _drop(self, waiting: asyncio.Task[None] | Place) -> None:
        if self._tasks is not None:
            self._tasks.discard(waiting)
            if not self._tasks:
                self._tasks = None

    @classmethod
    def open(cls, ws: Socket, dialect: Dialect, wires: Wires) -> ConnectionRef:
        """Start the actor of a socket whose handshake is done. `read` must follow."""
        ref: Any = wires.runtime.start(cls, ws, dialect, wires)  # no `cast`: it is a call
        opened: ConnectionRef = ref
        return opened

    # Urgent messages: one step each, also while a message waits ---------------------------------------

    def on_urgent(
        self, message: bytes | Tick | WakeUp | Close | Fault | Signal | Callable[[], object]
    ) -> Any:
        """Handle a message of `ConnectionRef`. Acks and pongs give a tick nothing to do."""
        if type(message) is bytes:  # most are acks, and this test is no call
            return self._take_ack(message)
        if isinstance(message, Tick):
            self._tick(message.now_s)
            return None
        if message is Signal.PONG:
            self._session.heard(self._wires.ambient.monotonic_s())
            return None
        self.stir()
        match message:
            case _ if callable(message):
                return message()
            case Signal.FILLED:
                self._pump.count_unsent()
            case Signal.DRAINED:
                self._pump.count_unsent()
                self.go_on()
            case Signal.DISCONNECTED:
                self._tell_free()
                self._cancel_tasks()
            case Signal.LOST:
                self._lost()
            case Signal.CURSORS:
                return self._session.delivery.cursors()
            case WakeUp():
                self.carry_out(self._session.wake_up(Now(message.now_s, self._wires.ambient.now_ms())))
                self._pump.retry()
            case Close():
                self._close(CloseCode(message.code), message.reason)
            case Fault():
                if message.asked is not None:
                    self._answering.say_internal(message.asked)
                raise message.error
        return None

    def _take_ack(self, text: bytes) -> bool:
        session, now_s = self._session, self._wires.ambient.monotonic_s()
        seq = session.acked_again(text, now_s)
        if seq >= 0:
            self._wires.hub.note_ack(session.user, session.client, session.acked_stream, seq)
            self.quick_acks = self._acks or self._quick_acks()
        else:
            self.quick_acks = None
            acked = session.acked(text, now_s)
            if acked is None:
                return False
            self._note(acked)
        if not self.rests_until_s and self._session.delivery.backlog:  # at rest there is none
            self._pump.run()
        return True

    def _quick_acks(self) -> QuickAcks:
        self._acks = QuickAcks(
            self, self._actor_ref, session=self._session, pump=self._pump, wires=self._wires
        )
        return self._acks

    def stir(self) -> None:
        """See `pump.Shell`."""
        if self.rests_until_s:
            self.rests_until_s = 0.0
            self._wires.hub.stirred(self._actor_ref)

    @property
    def at_rest(self) -> bool:
        """Whether a tick before the session's next deadline would find nothing to do.

        Whatever ends this is a message or an urgent one, and calls `stir`.
        """
        return self.place.at_rest and not self._session.busy and self._pump.at_rest

    def _tick(self, now_s: float) -> None:
        if self.place.waits:
            self._session.heard(now_s)  # While we are not reading, the client's silence does not count.
        now = Now(now_s, self._wires.ambient.now_ms())
        self.carry_out(self._session.tick(now))
        self._pump.retry()
        self.place.settle(now_s)
        if self._pump.stuck(now_s, self._wires.shared.settings.unsent_stuck_s):
            self._close(CloseCode.TOO_SLOW, en.UNREAD)
        self.rests_until_s = self._session.quiet_until_s(now) if self.at_rest else 0.0

    @property
    def session(self) -> Session:
        """Its state machine, to look at: what changes it goes by the actor's messages."""
        return self._session

    @property
    def pump(self) -> Pump:
        """What sends for this connection. Only to be looked at."""
        return self._pump

    def _close(self, code: CloseCode, reason: str) -> None:
        self.carry_out(self._session.close(code, reason))

    # The actor: one message at a time ---------------------------------------------------------------

    def on_receive(self, batch: Batch) -> Coroutine[Any, Any, None] | None:
        """Handle messages of the client until one must wait. The socket keeps those that were not handled.

        A coroutine is returned if what was handled last takes long. Of a client that is gone, messages that
        only ask for something are passed over.
        """
        self.stir()
        session, ambient, ws, texts = self._session, self._wires.ambient, self._ws, batch.texts
        if not self.place.may_begin(len(texts) - batch.at):
            return None
        began_s = ambient.monotonic_s()
        now, until_s = Now(began_s, ambient.now_ms()), began_s + _AT_ONCE_S
        while batch.at < len(texts) and not (ws.is_open and (session.full or ws.paused)):
            if batch.at and ambient.monotonic_s() > until_s:
                self.place.wait_again()
                break
            text = texts[batch.at]
            batch.at += 1
            if text.startswith(ACK) and self._take_ack(text):
                continue
            if not ws.is_open and session.needless(text):
                continue
            todo = session.received(text, now)
            if len(todo) == 1 and todo[0].__class__ is interface.Execute:  # most are commands
                self._answering.execute(todo[0], len(text))
            elif (asked := self.carry_out(todo, len(text))) is not None:
                waits = self._find_out(asked, now)
                if waits is not None:
                    return waits
        self._pump.run()  # an ack made room, a subscription began
        self.place.charge(began_s, ambient.monotonic_s())
        return None

    def on_stop(self) -> None:
        """The handler has nothing more to read, or the runtime stops."""
        self._lost()
        self._let_go()

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """This server is at fault: close, so that the client comes back on a new connection."""
        _log.error("connection_failed", exc_info=(exception_type, exception_value, traceback))
        try:
            self._close(CloseCode.SERVER_FAULT, en.FAULT)
        finally:
            self._ws.end(CloseCode.SERVER_FAULT, en.FAULT, self._wires.shared.settings.close_timeout_s)
            self._lost()

    @property
    def _answering(self) -> Answering:
        """Made at the first command: many connections only read."""
        if self._answers is None:
            self._answers = Answering(
                self, self._actor_ref, ws=self._ws, session=self._session, pump=self._pump, wires=self._wires
            )
        return self._answers

    @property
    def _following(self) -> Following:
        """Made at the first list: many connections follow none."""
        if self._lists is None:
            self._lists = Following(
                self, self._actor_ref, ws=self._ws, session=self._session, pump=self._pump, wires=self._wires
            )
        return self._lists

    def carry_out(self, todo: Iterable[Output], size: int = 0) -> interface.Verify | interface.LookUp | None:
        """See `pump.Shell`. `size`: of the message that asked for it."""
        asked = None
        frames: list[bytes] = []  # written together: each write is a system call
        for one in todo:
            match one:
                case bytes():
                    frames.append(one)
                case interface.Execute():
                    self._answering.execute(one, size)
                case interface.Record():
                    self._answering.record(one)
                case interface.Acked():
                    self._note((one,))
                case interface.Verify() | interface.LookUp():
                    asked = one
                case interface.Watch():
                    self._wires.meter.resumed(one.outcome)
                    self._pump.watch(one.stream)
                case interface.Unwatch():
                    self._pump.unwatch(one.stream)
                case interface.TakeSnapshot():
                    self._pump.take_snapshot(one.sub)
                case interface.Follow():
                    self._following.follow(one)
                case interface.Unfollow():
                    self._following.unfollow(one)
                case interface.Present():
                    self._following.present(one)
                case interface.AckedViews() if self._lists is not None:
                    self._lists.acked(one.views)
                case interface.Alarm():
                    self._wires.meter.cursor_ahead()
                    tell_alarm(one)
                case interface.Close():
                    self._pump.write_all(frames)
                    frames.clear()
                    self._end_socket(one)
        if frames:
            self._pump.write_all(frames)
        return asked

    def _note(self, acked: Iterable[interface.Acked]) -> None:
        """Tell the hub how far the client has processed its streams."""
        user = self._session.user
        assert user, "an ack before any event was sent"
        for one in acked:
            self._wires.hub.note_ack(user, self._session.client, one.stream, one.seq)

    def _end_socket(self, said: interface.Close) -> None:
        settings = self._wires.shared.settings
        self._wires.meter.closed(said.code)
        deadline_s = _REVOKED_DEADLINE_S if said.code is CloseCode.REVOKED else settings.close_timeout_s
        self._ws.end(said.code, said.reason, deadline_s)
        self.leave()

    # Tokens, subscriptions, rights ----------------------------------------------------------------

    def _find_out(
        self, asked: interface.Verify | interface.LookUp, now: Now
    ) -> Coroutine[Any, Any, None] | None:
        """Do what the session asked for. A coroutine is returned if it must wait."""
        return self._verify(asked, now) if isinstance(asked, interface.Verify) else self._look_up(asked, now)

    def hold(self, stream: str) -> None:
        """Send nothing more of `stream` until its readers have been judged again; and of lists."""
        if self._lists is not None:
            self._lists.judge_all()
        principal = self._session.principal
        if principal is not None and self._session.hold(stream):
            verdict = self._wires.verdicts.of(principal, stream)
            self.start_task(self._judged_late(stream, verdict))

    def _verify(self, asked: interface.Verify, now: Now) -> Coroutine[Any, Any, None] | None:
        verdict = self._wires.verifier.verify(asked.token, now.ms)
        if not isinstance(verdict, Verified | AuthFailure):
            return self._later(verdict, self._tell_verdict)
        return self._tell_verdict(verdict, now)

    async def _later[T](
        self, fact: Awaitable[T], then: Callable[[T], Coroutine[Any, Any, None] | None]
    ) -> None:
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
                    await self.change()
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
                admitted = hub.join(self._actor_ref, verdict, client)
            elif self._session.may_refresh(verdict):
                hub.refreshed(self._actor_ref, verdict)
                if self._lists is not None:
                    self._lists.judge_all()
        if isinstance(admitted, bool):
            return self._admit(verdict, admitted, now)
        return self._later(admitted, partial(self._admit, verdict))

    def _admit(
        self, verdict: Verdict, admitted: bool, now: Now | None = None
    ) -> Coroutine[Any, Any, None] | None:
        now = now or self._now()
        asked = self.carry_out(self._session.verdict(verdict, now, admitted=admitted))
        self._token_judged()
        if isinstance(asked, interface.LookUp):
            return self._look_up(asked, now)
        self.go_on()
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
            self.start_task(self._judged_late(stream, verdict))

    async def _judged_late(self, stream: str, verdict: Awaitable[bool | None]) -> None:
        readable = await verdict

        def step() -> None:
            self.carry_out(self._session.judged(stream, readable=readable))
            self.go_on()

        self._actor_ref.step(step)

    def _looked_up(
        self,
        links: Mapping[tuple[str, int], bytes],
        verdicts: Mapping[str, bool | None] | None = None,
        *,
        now: Now | None = None,
    ) -> None:
        self.carry_out(self._session.looked_up(links, now or self._now(), verdicts))
        self._token_judged()
        self.go_on()

    def _token_judged(self) -> None:
        if self._session.principal is not None:
            self._ws.trust()
            if self._ws.load is None:
                self._ws.load = Load(self._wires.supply.intake, self._session.user)

    def go_on(self) -> None:
        """See `pump.Shell`."""
        self._tell_free()
        self._pump.run()
        if self._lists is not None:
            self._lists.go_on()
        if not self.place.waits:
            self._ws.go_on_soon()

    def went_on(self, began_s: float, position: int = 0) -> None:
        """See `pump.Shell`."""
        self.stir()
        self.go_on()
        if position and self._lists is not None:
            self._lists.reach(position)
        self.place.charge(began_s, self._wires.ambient.monotonic_s())

    # The end ------------------------------------------------------------------------------------------

    def _lost(self) -> None:
        """The socket is gone, or the actor is. Idempotent."""
        if not self._session.closed:
            self._wires.meter.closed(self._ws.close_code or CloseCode.LOST)
        self._session.gone()
        self._pump.gone()
        self._ws.listener = None
        self._ws.go_on_soon()
        self.leave()
        self._cancel_tasks()

    def _let_go(self) -> None:
        """Let go of the parts, which hold it: so it is freed at once, without the collector.

        Tasks that have not ended yet hold what they use. Their steps are not taken any more.
        """
        if self._answers is not None:
            self._answers.let_go()
        self._pump.let_go()
        self._acks = self.quick_acks = self._lists = None
        del self._answers, self._pump, self.place

    def leave(self) -> None:
        """See `pump.Shell`."""
        self._wires.hub.leave(self._actor_ref)
        if self._lists is not None:
            self._lists.end()
        self._pump.stop()
        self._tell_free()

    def _now(self) -> Now:
        return Now(self._wires.ambient.monotonic_s(), self._wires.ambient.now_ms())
