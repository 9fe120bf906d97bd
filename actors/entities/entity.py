"""An event-sourced entity: the actor that folds one stream and decides its commands one at a time.

Catch up, decide (pure), append, evolve, reply, start effects. The domain supplies the decider, the directory
delivers messages, `folded` keeps the state.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import batched
from typing import Any, ClassVar

import msgspec
import structlog

from huahuo.actors.actor.restart import Restart
from huahuo.actors.entities.appending import answer_of, append_of, repeated, writes
from huahuo.actors.entities.decider import Answer, Context, Decision, Origin
from huahuo.actors.entities.errors import Busy, EntityError
from huahuo.actors.entities.fairness import paid_for
from huahuo.actors.entities.folded import UNLOADED, Folded, FoldFailed
from huahuo.actors.entities.missing import Missing
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

_log = structlog.get_logger(__name__)

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


class Entity(Folded):
    """One entity. It answers questions about its state, and decides and appends on it."""

    supervision: ClassVar[Restart] = Restart()

    __slots__ = ()

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
