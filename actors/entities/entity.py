"""An event-sourced entity: the actor that folds one stream and decides its commands one at a time.

Catch up, decide (pure), append, evolve, reply, start effects. The domain supplies the decider, the
directory delivers messages. `Kind` is what all entities of one kind share: decider, effects, log, feed and
clock. The log can restore the state: when the outcome of an append is unknown or a fold fails, the state
is dropped and loaded again. `Missing` is what a decision must know besides the state, and must be read
first. `Fairness` hears each user's share of the time: entities measure it, another floor decides.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import batched
from typing import Any, ClassVar, Final, Protocol

import msgspec
import structlog

from huahuo.actors.actor.loop_actor import LoopActor
from huahuo.actors.actor.messages import Envelope
from huahuo.actors.actor.restart import Restart
from huahuo.actors.entities.decider import (
    Answer,
    Busy,
    Context,
    Decider,
    Decision,
    EntityError,
    Origin,
    answer_of,
    append_of,
    repeated,
    writes,
)
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.errors import (
    Closed,
    CommandMismatch,
    Conflict,
    EventStoreError,
    NumbersSpent,
    QueueFull,
    TooLarge,
)
from huahuo.eventstore.model import Appended, Duplicate, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed
from huahuo.replay.history.keyframe_writer import KeyframeWriter
from huahuo.replay.history.keyframes import load

OTHERS_WAIT_S_MAX: Final = 5.0
"""An entity that others ask, too, lets its user wait no longer than this."""


class Fairness(Protocol):
    """Shares of the loop's, the writer's and the threads' time between principals."""

    def may_go(self, principal: str) -> bool:
        """Whether `principal` owes no more time than is free."""
        ...

    async def paid(self, principal: str) -> None:
        """Return when that is so, or it has waited long enough not to be starved."""
        ...

    def charge(self, principal: str, spent_s: float) -> None:
        """Charge `principal` for this time."""
        ...


async def paid_for(fairness: Fairness, principal: str, others_wait: Callable[[], bool]) -> None:
    """As `Fairness.paid`, but the line of one user's work holds up nobody else.

    `others_wait`: whether anybody waits for what this user holds. Then it goes on after at most
    `OTHERS_WAIT_S_MAX`.
    """
    if fairness.may_go(principal):
        return
    paid = asyncio.ensure_future(fairness.paid(principal))
    try:
        while not (await asyncio.wait((paid,), timeout=OTHERS_WAIT_S_MAX))[0]:
            if others_wait():
                return
    finally:
        paid.cancel()


class Missing(Exception):  # noqa: N818  a request, not a fault
    """Raised by `decide`: it must know more. The entity reads it and decides again."""

    async def read(self, log: Log) -> None:
        """Read it, and keep it where the next `decide` finds it. Raises Closed, Unavailable."""


_log = structlog.get_logger(__name__)

type Effects = Callable[[str, Any, int], None]
"""Called with key, effect and the position of its decision. Starts the effect and returns at once."""


class Kind:
    """What all entities of one kind share: decider, effects, log, feed and clock."""

    __slots__ = (
        "_moment", "adopt", "ambient", "decider", "effects", "fairness", "feed", "keyframes", "loads", "log",
        "name", "policy", "stream_prefix", "weigh", "weight",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        decider: Decider[Any, Any, Any, Any],
        *,
        stream_prefix: str,
        log: Log,
        feed: Feed,
        ambient: Ambient,
        keyframes: KeyframeWriter,
        loads: asyncio.Semaphore,
        effects: Effects,
        weigh: Callable[[Any], int] | None = None,
        keyframe_every: int = 0,
        fairness: Fairness | None = None,
    ) -> None:
        self.name = name
        self.decider = decider
        self.adopt: Callable[[Any, Any], int] | None = getattr(decider, "adopt", None)
        """Gives a state what its decider said in `Decision.after`. Returns how many events that covers."""
        self.stream_prefix = stream_prefix
        self.log = log
        self.feed = feed
        self.ambient = ambient
        self.keyframes = keyframes
        self.policy = keyframes.policy.with_every(keyframe_every) if keyframe_every else keyframes.policy
        self.loads = loads
        self.effects = effects
        self.weigh = weigh
        self.fairness = fairness
        self._moment = 0, rfc3339(0)
        self.weight = 0
        """The sum of `weigh` over the loaded states."""

    def context(self, command_id: str = "") -> Context:
        """The time, counters and heads for one decision."""
        now_ms = self.ambient.now_ms()
        if self._moment[0] != now_ms:  # many decisions are made within a millisecond
            self._moment = now_ms, rfc3339(now_ms)
        return Context(
            now_ms=now_ms,
            timestamp=self._moment[1],
            take=self.log.take,
            head=self._head,
            command_id=command_id,
        )

    def _head(self, stream: str) -> int:
        return self.log.head(stream).seq

    def start_effects(self, stream: str, effects: Sequence[object], position: int) -> None:
        """Start the effects of this stream's entity. If one fails to start, that is logged."""
        key = stream.removeprefix(f"{self.stream_prefix}/")
        for effect in effects:
            try:
                self.effects(key, effect, position)
            except Exception:  # noqa: BLE001  user code; the events are committed
                _log.exception("effect_not_started", kind=self.name, key=key, effect=type(effect).__name__)


UNLOADED = -1
"""The seq of an entity whose state is not in memory."""
_RUN_EVENTS_MAX = 1024
_RUN_BYTES_MAX = 1 << 20


class FoldFailed(msgspec.Struct, frozen=True):
    """A fold raised this. As a message to the entity itself, it fails its actor."""

    error: Exception


DECIDE_ATTEMPTS_MAX = 8
"""How often one command is decided while other writers keep changing the heads that it expects."""
_TAKEN_AT_ONCE = 512


class Execute[C](msgspec.Struct, frozen=True):
    """Decide this command and append the result. The reply is an `Answer`."""

    command: C
    origin: Origin


class ExecuteParts[C](msgspec.Struct, frozen=True):
    """Decide these one after the other, each in an append of its own. Answered by a tuple of their answers.

    If one raises, so does the whole; those before it stand. Parts with command ids are then done by a repeat,
    which gets the first answers of those that stand.
    """

    parts: tuple[Execute[C], ...]


class Query[S, T](msgspec.Struct, frozen=True):
    """Answer `fn(seq, state)` for the state after all events that are durable now.

    `fn` must neither change the state nor return parts of it that can change. It blocks the loop, so a long
    answer is built elsewhere, from a copy that `fn` returns.
    """

    fn: Callable[[int, S], T]


class CatchUp(msgspec.Struct, frozen=True):
    """Load the entity and catch up with the log. The reply is the seq."""


class Asked(msgspec.Struct):
    """A question in the inbox. If `gone`, its sender no longer waits and no answer is built.

    `user`: pays for the answer; "" if the service asks.
    """

    question: "Query[Any, Any] | CatchUp"
    user: str = ""
    gone: bool = False


class Told(msgspec.Struct, frozen=True):
    """A message whose sender wants no answer. If the store refuses it, that is logged, not raised."""

    message: object


class Entity(LoopActor):
    """One entity. It answers questions about its state, and decides and appends on it.

    Invariant: between two messages it has the state after event `_seq`, or is unloaded.
    """

    supervision: ClassVar[Restart] = Restart()

    # 100,000 entities may be in memory. All attributes, also of the bases, are slots: no instance has a dict.
    __slots__ = (
        "_actor_ref", "_frame_bytes", "_framed", "_kind", "_seq", "_state", "_stream", "_weight",
        "actor_inbox",
    )  # fmt: skip

    def __init__(self, kind: Kind, stream: str) -> None:
        super().__init__()
        self._kind = kind
        self._stream = stream
        self._seq = UNLOADED
        self._state: Any = None
        self._framed = 0
        self._frame_bytes = 0
        self._weight = 0

    def on_receive(self, message: object) -> object:
        """Handle one message. If this returns a coroutine, the runtime awaits it before the next message."""
        match message:
            case Execute():
                return self._execute(message.command, message.origin)
            case ExecuteParts():
                return self._execute_parts(message.parts)
            case Asked():
                return None if message.gone else self._answer(message)
            case Query() | CatchUp():
                return self._answer(Asked(message))
            case Told():
                return self._told(message.message)
            case FoldFailed():
                raise message.error
            case _:
                raise TypeError(f"an entity does not understand {type(message).__name__}")

    def _keep_arguments(self, *_: object) -> None:
        """Keep nothing: `_arguments` returns the attributes."""

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self._kind, self._stream), {}

    async def _told(self, message: object) -> None:
        try:
            answer = self.on_receive(message)
            if asyncio.iscoroutine(answer):
                await answer
        except (EventStoreError, EntityError) as error:
            _log.warning("told_message_not_done", entity=self._stream, error=type(error).__name__)

    async def _answer(self, asked: Asked) -> Any:
        await self._catch_up()
        question = asked.question
        if asked.gone or isinstance(question, CatchUp):
            return self._seq
        fairness, now_s = self._kind.fairness, self._kind.ambient.monotonic_s
        if fairness is None or not asked.user:
            return question.fn(self._seq, self._state)
        began_s = now_s()
        try:
            return question.fn(self._seq, self._state)
        finally:
            fairness.charge(asked.user, now_s() - began_s)

    @property
    def guard(self) -> tuple[str, int] | None:
        """What an append of this entity expects: its stream and seq. None: many write that stream."""
        return (self._stream, self._seq) if self._kind.decider.guarded else None

    def decide_now(self, command: object, context: Context) -> Decision[Any, Any] | None:
        """Decide, for a caller who holds this entity and calls `finish` or `forget` after the append.

        None: nothing was done. The entity is not up to date, or there is a fault, which a message will tell.
        """
        kind = self._kind
        if self._seq != context.head(self._stream):
            return None
        try:
            return kind.decider.decide(self._state, command, context)
        except Exception:  # noqa: BLE001  as a message, it is decided again
            return None

    def advance(self, decision: Decision[Any, Any]) -> bool:
        """Take over the state after a decision that is not durable yet, for a caller who holds this entity.

        The append expects our seq, so the events follow directly. False: its decider has not folded them.
        """
        kind = self._kind
        if decision.after is None or kind.adopt is None or not kind.decider.guarded:
            return False
        self._seq += kind.adopt(self._state, decision.after)
        return True

    def finish(self, decision: Decision[Any, Any], written: Sequence[StoredEvent], *, advanced: bool) -> None:
        """The append of `decide_now` is durable: these are the decision's events. `advanced`: see there.

        Call `settle` after the last one of an append.
        """
        stream = self._stream
        ours = () if advanced else [event for event in written if event.stream == stream]
        if ours and len(ours) <= _TAKEN_AT_ONCE:  # else the next message catches up, in parts
            try:
                self._take(ours)
            except Exception:  # noqa: BLE001  a fold may raise anything; the events are durable
                _log.exception("fold_failed_after_append", entity=stream, position=written[-1].position)
        if decision.effects:
            self._start(decision, written[-1].position)

    def settle(self) -> None:
        """All decisions of an append are finished: weigh the state, and store a keyframe if one is due."""
        if self._seq != UNLOADED:
            self._settle()

    def forget(self) -> None:
        """The outcome of an append is not known, and only the log can tell."""
        self._drop()

    async def _execute(self, command: object, origin: Origin) -> Answer[Any]:
        kind = self._kind
        fairness = kind.fairness
        for _ in range(DECIDE_ATTEMPTS_MAX):
            if fairness is not None and not fairness.may_go(origin.principal):
                await paid_for(fairness, origin.principal, lambda: not self.actor_inbox.empty())
            await self._catch_up()
            # No await from here to the append, so that no head that the decision reads is newer than the
            # state it decides on.
            began_s = kind.ambient.monotonic_s()
            context = kind.context(origin.command_id)
            try:
                decision = kind.decider.decide(self._state, command, context)
            except Missing as missing:
                await missing.read(kind.log)
                continue
            except NumbersSpent as spent:
                await kind.log.reserve(spent.counter, spent.count)
                continue
            if not writes(decision, origin):
                return await self._earlier(origin) or Answer(reply=decision.reply)
            guard = {self._stream: self._seq} if kind.decider.guarded else {}
            try:
                append = append_of(decision, origin, context.now_ms, guard)
                if fairness is not None:
                    fairness.charge(origin.principal, kind.ambient.monotonic_s() - began_s)
                outcome = await kind.log.append(append)
            except Conflict:
                if decision.expected:
                    # The state may hold what the decider expected of those streams. Another node may have
                    # written as many events there, so their heads do not tell that it was not written.
                    self._drop()
                continue
            except (CommandMismatch, TooLarge, QueueFull, Closed):
                raise  # certain: nothing was written
            except BaseException:
                self._drop()  # unknown, also when cancelled: only the log can tell
                raise
            if isinstance(outcome, Duplicate):
                return repeated(outcome.command)
            return await self._committed(decision, outcome, origin)
        raise Busy(f"{self._stream}: conflicts did not end after {DECIDE_ATTEMPTS_MAX} decisions")

    async def _execute_parts(self, parts: Sequence[Execute[Any]]) -> tuple[Answer[Any], ...]:
        return tuple([await self._execute(part.command, part.origin) for part in parts])

    async def _earlier(self, origin: Origin) -> Answer[Any] | None:
        """The answer to this command id, if it was executed before.

        An append gets it from the log. For a decision that appends nothing we must ask: an executed
        `withdraw 5` might be refused now, and a repeat must get the first answer, not that refusal.
        """
        record = None if origin.key is None else await self._kind.log.command(origin.key)
        if record is None:
            return None
        if record.fingerprint != origin.fingerprint:
            raise CommandMismatch("the command id was used with another content")
        return repeated(record)

    async def _committed(
        self, decision: Decision[Any, Any], outcome: Appended, origin: Origin
    ) -> Answer[Any]:
        if self._seq != UNLOADED and self.advance(decision):
            self._settle()
            self._start(decision, outcome.position)
            return answer_of(decision, outcome)
        ours = [event for event in outcome.events if event.stream == self._stream]
        fairness, now_s = self._kind.fairness, self._kind.ambient.monotonic_s
        try:
            for some in batched(ours, _TAKEN_AT_ONCE):
                began_s = now_s()
                self._take(some)
                if fairness is not None:
                    fairness.charge(origin.principal, now_s() - began_s)
                if len(ours) > _TAKEN_AT_ONCE:
                    await asyncio.sleep(0)  # long, as after an import: let others use the loop
        except Exception:  # noqa: BLE001  a fold may raise anything; the events are durable
            _log.exception("fold_failed_after_append", entity=self._stream, position=outcome.position)
        self._start(decision, outcome.position)
        return answer_of(decision, outcome)

    def _start(self, decision: Decision[Any, Any], position: int) -> None:
        if decision.effects:
            # After the answer, which is set when this step of the loop returns.
            asyncio.get_running_loop().call_soon(
                self._kind.start_effects, self._stream, decision.effects, position
            )

    def on_stop(self) -> None:
        """Store a keyframe if loading again would take long."""
        self._offer_keyframe(leaving=True)
        self._drop()

    def on_failure(self, *_: object) -> None:
        """Drop the state: a new object takes over the inbox and loads its own."""
        self._drop()

    def load_from(self, events: Sequence[StoredEvent]) -> None:
        """Take the whole stream, for a caller who holds this entity and has read it.

        Nothing happens if it is not whole, or cannot be folded: the next message then loads it and says so.
        """
        if self._seq != UNLOADED or not events or events[0].seq != 1:
            return
        if events[-1].seq != self._kind.feed.head(self._stream).seq:
            return
        decider = self._kind.decider
        try:
            state = decider.initial(self._stream)
            for event in events:
                state = decider.evolve(state, event)
        except Exception:  # noqa: BLE001  a fold may raise anything
            return
        self._state, self._seq = state, events[-1].seq
        self._settle()

    async def _catch_up(self) -> None:
        """Fold up to the head. Returns in the step of the loop in which the head was read."""
        if self._seq == UNLOADED:
            await self._load()
        feed, stream = self._kind.feed, self._stream
        while self._seq < feed.head(stream).seq:
            run = feed.peek(stream, self._seq, events_max=_RUN_EVENTS_MAX, bytes_max=_RUN_BYTES_MAX)
            if run is None:
                run = await feed.fetch(
                    stream, self._seq, events_max=_RUN_EVENTS_MAX, bytes_max=_RUN_BYTES_MAX
                )
            self._take(run.events)
            self._seq = run.last
            if self._seq < feed.head(stream).seq:
                await asyncio.sleep(0)  # far behind: let others use the loop

    def _take(self, events: Sequence[StoredEvent]) -> None:
        """Evolve with those of `events` that follow directly.

        After a gap (another writer appended in between) the next catch-up continues.
        """
        evolve = self._kind.decider.evolve
        try:
            for event in events:
                if event.seq == self._seq + 1:
                    self._state = evolve(self._state, event)
                    self._seq = event.seq
            self._settle()
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: Exception) -> None:
        """Drop the state, which cannot be trusted, and tell the supervisor.

        An exception that answers an ask stops no actor, so a message carries the failure.
        """
        self._drop()
        self.actor_inbox.put_unbounded(Envelope(FoldFailed(error)))

    async def _load(self) -> None:
        try:
            async with self._kind.loads:
                kind = self._kind
                frames_from = kind.policy.leaving
                loaded = await load(kind.log, self._stream, kind.decider, frames_from=frames_from)
            self._seq, self._state, self._framed = loaded.seq, loaded.state, loaded.framed
            self._settle()
        except EventStoreError:
            raise  # a fault of the log, not of this entity
        except Exception as error:
            self._fail(error)
            raise

    def _settle(self) -> None:
        weigh = self._kind.weigh
        if weigh is not None:
            weight = weigh(self._state)
            self._kind.weight += weight - self._weight
            self._weight = weight
        self._offer_keyframe()

    def _offer_keyframe(self, *, leaving: bool = False) -> None:
        kind, events = self._kind, self._seq - self._framed
        policy = kind.policy
        if events < (policy.leaving if leaving else policy.every):
            return  # the usual case, without a call
        if events > 0 and policy.due(events, size=self._frame_bytes, leaving=leaving):
            if self._seq > kind.feed.head(self._stream).seq:
                return  # ahead of an append that is not durable
            size = kind.keyframes.offer(self._stream, kind.decider, self._seq, self._state)
            if size is not None:
                self._framed, self._frame_bytes = self._seq, size

    def _drop(self) -> None:
        self._kind.weight -= self._weight
        self._weight = 0
        self._state = None
        self._seq = UNLOADED
        self._framed = 0
