"""An `Entity` as the engine's `Decider`: one command in, one append out. Pure.

Every append expects the entity's own stream at the seq of the state, a recorded refusal too. So an answer
is only ever about the state on which it was decided.

A handler that raises, or answers something impossible, is a fault: the exception goes to the caller,
nothing is appended, and the entity goes on. A decision's own events are evolved before they are appended,
because an event that cannot be folded would make the entity unreadable for ever.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import Struct

from huahuo.actors.domain import projection_rows, writing
from huahuo.actors.domain.catalog import Catalog, creates
from huahuo.actors.domain.entity import Entity, Handler
from huahuo.actors.domain.event_shapes import Kept, row_of
from huahuo.actors.domain.fold import MEASURED_BYTES, Ahead, EntityFold, Held
from huahuo.actors.domain.projection_rows import OverBound, RowVersions, behind, stream_of
from huahuo.actors.domain.storable import is_key, only_plain_values, refuse_lost
from huahuo.actors.domain.structs import (
    Command,
    Context,
    Decision,
    Event,
    Fault,
    HandlerExit,
    Refused,
    place_of,
    traits,
)
from huahuo.actors.domain.writing import NOT_FINAL, Done, Emit, Sent, not_found, refusal, too_large, too_many
from huahuo.actors.effects.facts import Guard
from huahuo.actors.entities import decider as engine
from huahuo.actors.plugins import en
from huahuo.actors.plugins.calls import Principal, carried
from huahuo.actors.timers.timer import STREAMS, Changes, NotKnown
from huahuo.actors.timers.timer_table import TimersMissing
from huahuo.eventstore.model import NewEvent, RowDrop, RowPut


class Bounds(Struct, frozen=True):
    """What one decision and one state may hold."""

    decision_events_max: int = 5_000
    state_bytes_max: int = 15 << 20
    """Below the 16 MiB of a snapshot's frame."""
    effect_bytes_max: int = 64 << 10


DEFAULTS: Final = Bounds()


_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
_NO_FIELDS: Final[Mapping[str, Any]] = MappingProxyType({})
_NO_GUARD: Final = Guard("", 0)
_NO_LONGER: Final = Done(b'{"type":"success"}')
"""The answer to a timer that was replaced or ended before its command was decided."""


class EntityDecider(EntityFold):
    """See the module. States are at most `state_bytes_max` long after each decision.

    A state is encoded to know its size, so a large one is encoded only if the events may have made it too
    large.
    """

    guarded: Final = True

    def __init__(
        self, entity: Entity[Any], catalog: Catalog, bounds: Bounds = DEFAULTS,
        versions: RowVersions | None = None,
    ) -> None:  # fmt: skip
        super().__init__(entity)
        self._bounds = bounds
        self._catalog = catalog
        self._versions = versions or RowVersions(catalog, shared=False)
        self._handlers = entity.decides
        self.kept = {form.name for form in self._forms.values()}
        """The types whose shape the log has. A service sets it before it decides."""
        self._mutable = not only_plain_values(entity.state)
        """Whether a handler could change a state in place: one up to `MEASURED_BYTES` is then compared."""

    def decide(self, state: Held, command: Sent, context: engine.Context) -> engine.Decision[Done, Any]:
        """See `Decider`.

        Raises:
            Fault: the handler's answer cannot be done. Others: what a handler raised.
            Missing: the entity's timers, or who writes its rows, must be read first.
        """
        before = self._encode(state.state) if self._mutable and state.size <= MEASURED_BYTES else None
        try:
            return self._decided(state, command, context)
        except NotKnown:
            raise TimersMissing(f"{self.entity.kind}/{state.key}", state.timers) from None
        except Exception:
            raise
        except BaseException as error:
            raise HandlerExit(self._handlers.get(type(command.command)), error) from error
        finally:
            if before is not None and self._encode(state.state) != before:
                state.state = self.unpack(before)
                raise self._fault(command.command, "it, or evolve, changes the state in place: use replace()")

    def _decided(self, state: Held, sent: Sent, context: engine.Context) -> engine.Decision[Done, Any]:
        guard = sent.guard
        if guard is not None and context.head(guard.stream) != guard.seq:
            return engine.Decision(reply=Done(b"", moved=True))
        timer = sent.timer
        if timer is None:
            stream = f"{self.entity.kind}/{state.key}"
            trace = sent.trace or carried(sent.command_id)
        else:
            stream, trace = timer.entity, timer.trace
        own = STREAMS + stream
        timers = Changes(
            stream, own, state.timers, context.head(own), context.now_ms, context.timestamp, trace,
            sent.command_id,
        )  # fmt: skip
        if timer is not None and not timers.fire(timer):
            return engine.Decision(reply=_NO_LONGER)
        outcome = self._outcome(state, sent, context)
        if outcome.__class__ is list:  # the usual answer
            plain = self._plain(state, sent, outcome, context, timers, stream)
            if plain is not None:
                return plain
            outcome = Decision(outcome)
        if isinstance(outcome, Refused):
            decision = refusal(outcome)
        else:
            decision = self._written(state, sent, self._decision_of(outcome, sent.command), context, timers)
        if decision.reply.refused:
            timers.only_the_firing()
        return timers.into(decision)

    def _outcome(self, state: Held, sent: Sent, context: engine.Context) -> Any:
        """What the handler answers, or why it is not asked."""
        command: Any = sent.command  # both are compared by their class: `isinstance` asks the metaclass
        if command.__class__ is Emit:
            return Decision(command.events)
        if sent.who is None and state.exists:  # most timers are such cases
            ctx = Context(state.key, now_ms=context.now_ms, command_id=sent.command_id)
        else:
            refused = self._refuses(state, sent, command)
            if refused is not None:
                return refused
            ctx = _context(state, sent, context)
        handler = self._handlers.get(command.__class__)
        if handler is None:
            raise Fault(f"{type(command).__name__}: no decide of {self.entity.kind} handles it")
        try:
            outcome = handler(state.state, command, ctx)
        except Refused as refusal:
            outcome = refusal
        if outcome.__class__ is list or not isinstance(outcome, Refused):
            return outcome
        if outcome.code in NOT_FINAL or not writing.CODE.fullmatch(outcome.code):
            raise self._fault(command, f"the code {outcome.code!r} is not for an application")
        return outcome

    def _plain(
        self,
        state: Held,
        sent: Sent,
        outcome: list[Any],
        context: engine.Context,
        timers: Changes,
        stream: str,
    ) -> engine.Decision[Done, Any] | None:
        """The decision of own events alone, in few steps: most decisions are one such event.

        None: there is more in it, or something is wrong, which `_written` says.
        """
        entity, forms, bounds = self.entity, self._forms, self._bounds
        if len(outcome) > bounds.decision_events_max or entity.tables or sent.guard is not None:
            return None
        timestamp, version, body_bytes = context.timestamp, entity.version, 0
        command_id = "" if sent.timer is None else sent.command_id
        events: list[NewEvent] = []
        own: list[tuple[Handler, Event]] = []
        reply = _NO_LONGER  # nobody reads that of a timer
        try:
            for event in outcome:
                form = forms.get(event.__class__)
                if form is None or form.name not in self.kept:
                    return None
                body, read = writing.as_read(form, event, timestamp)
                own.append((form.handler, read))
                events.append(NewEvent(stream, form.name, body, version, stream, command_id))
                body_bytes += len(body)
            if sent.timer is None:
                reply = Done(self._reply(state, _NO_FIELDS))
        except (OverBound, TypeError, ValueError, OverflowError, RecursionError):
            return None
        if state.size + body_bytes > bounds.state_bytes_max:
            return None
        after = state.state
        for handler, event in own:
            try:
                after = handler(after, event)
            except Exception:
                raise
            except BaseException as error:
                raise HandlerExit(handler, error) from error
        if after.__class__ is not entity.state and not isinstance(after, entity.state):
            return None
        size = 0
        if state.size <= MEASURED_BYTES:
            size = len(self._encode(after))
            if size > bounds.state_bytes_max:
                return None
        elif self._over(state, after, body_bytes):
            return None
        facts = timers.facts()
        rows: tuple[RowPut | RowDrop, ...] = ()
        expected = _NOTHING
        if facts is not None:
            more, rows, expected = facts
            events += more
        return engine.Decision(
            reply=reply, record=reply.body, at_stream=stream, events=tuple(events), expected=expected,
            rows=rows, after=Ahead(after, len(own), body_bytes, size),
        )  # fmt: skip

    def _ahead(self, state: Held, events: Sequence[Event], event_bytes: int) -> Any:
        """The state after the decision. Raises OverBound: it is too large after some of the events."""
        after = state.state
        if state.size + event_bytes > self._bounds.state_bytes_max:
            after = self._measured(state, events)
        else:
            for event in events:
                after = self.after(after, event)
        if not isinstance(after, self.entity.state):
            what, handler = type(after).__name__, self.entity.evolves[type(events[-1])]
            raise Fault(f"{place_of(handler)}: {handler.__name__} returns {what}: return the new state")
        return after

    def _measured(self, state: Held, events: Sequence[Event]) -> Any:
        """As `_ahead`, for events that may make the state too large: a large state costs time to copy."""
        after, grown = state.state, state.size
        for event in events:
            after = self.after(after, event)
            grown += len(self._encode(event))
            if grown > self._bounds.state_bytes_max:
                grown = len(self._encode(after))
                if grown > self._bounds.state_bytes_max:
                    raise OverBound(self._said())
        return after

    def _said(self) -> str:
        """Why a state that is too large is refused."""
        return en.STATE_TOO_LARGE.format(self._bounds.state_bytes_max)

    def _over(self, state: Held, after: Any, event_bytes: int) -> bool:
        """Whether a state exceeds its bound. A large state is measured only when it may have grown much."""
        guessed = state.size + 2 * (state.since + event_bytes)
        if state.size > MEASURED_BYTES and guessed < self._bounds.state_bytes_max // 2:
            return False
        return len(self.pack(after)) > self._bounds.state_bytes_max

    def _refuses(self, state: Held, sent: Sent, command: Command) -> Refused | None:
        """Why the command never reaches its handler: nothing is there, or the user may not read it."""
        entity, cls = self.entity, type(command)
        if not state.exists:
            return None if creates(entity, cls) else not_found(entity)
        if sent.who is None or sent.readable or traits(cls).open or self.readable(state, sent.who):
            return None
        return not_found(entity)

    def readable(self, state: Held, who: Principal) -> bool:
        """Whether `who` may read the entity. An entity without events has no readers but administrators."""
        if not is_key(state.key, self.entity.key):
            return False
        if who.is_admin:
            return True
        judge = self.entity.may_read
        try:
            given = (state.key,) if self.entity.readers_take_id else ()
            return judge is not None and state.exists and bool(judge(state.state, who, *given))
        except Exception:
            raise
        except BaseException as error:
            raise HandlerExit(judge, error) from error

    def _decision_of(self, outcome: Any, command: Command | Emit) -> Decision:
        if isinstance(outcome, Decision):
            return outcome
        if isinstance(outcome, Sequence) and not isinstance(outcome, str | bytes):
            return Decision(outcome)
        what = type(outcome).__name__
        write = f"[{what}(…)]" if isinstance(outcome, Event) else "a list of events, a Decision or a Refused"
        raise self._fault(command, f"it returns {what}: return {write}", told=True)

    def _written(
        self, state: Held, sent: Sent, decision: Decision, context: engine.Context, timers: Changes
    ) -> engine.Decision[Done, Any]:
        bounds, stream = self._bounds, f"{self.entity.kind}/{state.key}"
        most = bounds.decision_events_max
        try:
            many = max(len(decision.events), len(decision.effects), len(decision.rows)) > most
        except TypeError as error:
            raise self._fault(
                sent.command, "events, effects and rows are lists: write [ ] around one"
            ) from error
        if many:
            return too_many(decision, most)
        payer = sent.payer if sent.who is None else sent.who.user_id
        write = writing.Writing(
            self.entity,
            self._catalog,
            stream,
            context,
            timers,
            self._forms,
            user=payer,
            trace=timers.trace,
            effect_bytes_max=bounds.effect_bytes_max,
            command_id="" if sent.timer is None else sent.command_id,
        )
        try:
            for event in decision.events:
                write.event(event)
            for effect in decision.effects:
                write.effect(effect)
            if decision.rows:
                write.projected(decision.rows, derived=self._catalog.derived)
            secrets = writing.secrets(stream, decision.secrets) if decision.secrets else ()
            asked = sent.timer is None or decision.reply  # else nobody reads the reply
            body = self._reply(state, decision.reply) if asked else _NO_LONGER.body
        except OverBound as over:
            return too_large(str(over))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._fault(sent.command, str(error)) from error
        if len(body) > bounds.state_bytes_max:  # the same bound: both are parts of one frame
            return too_large(en.REPLY_TOO_LARGE.format(len(body), bounds.state_bytes_max))
        try:
            after = self._ahead(state, write.own, write.own_bytes)
        except OverBound as over:
            return too_large(str(over))
        guard = sent.guard or _NO_GUARD
        expected = {guard.stream: guard.seq} if guard.stream else {}
        if self.entity.tables and write.own:
            heads = {table: context.head(stream_of(table)) for table in self.entity.tables}
            expected |= {stream_of(table): seq for table, seq in heads.items()}
            left_out = [table for table, seq in heads.items() if not self._versions.writes(table, seq)]
            write.rows += map(behind, left_out)
            try:
                before = (
                    projection_rows.rows_of(self.entity, state.state, state.key, left_out)
                    if state.exists
                    else {}
                )
                changes = projection_rows.changes(
                    before, projection_rows.rows_of(self.entity, after, state.key, left_out)
                )
            except OverBound as over:
                return too_large(str(over))
            if len(changes) > bounds.decision_events_max:
                return too_large(en.TOO_MANY.format(len(changes), "rows", bounds.decision_events_max))
            write.rows += changes
        if after is not state.state and self._over(state, after, write.own_bytes):
            return too_large(self._said())
        new = [cls for cls in dict.fromkeys(map(type, write.own)) if self._forms[cls].name not in self.kept]
        return engine.Decision(
            reply=Done(body, state=None if sent.guard is None else after),
            record=body,
            at_stream=stream,
            events=(*guard.events, *write.events),
            effects=(*write.to_start, *(Kept(self._forms[cls].name) for cls in new)),
            expected=expected,
            rows=(*guard.rows, *write.rows, *(row_of(self.entity, cls) for cls in new)),
            secrets=secrets,
            shred=(stream,) if decision.shred else (),
            after=Ahead(after, len(write.own), write.own_bytes),
        )

    def _reply(self, state: Held, fields: Mapping[str, Any]) -> bytes:
        own = f"{self.entity.kind}_id"
        taken = {"type", "id", "at", "duplicate", own}.intersection(fields)
        if taken:
            raise ValueError(f"reply: the field {min(taken)!r} is given by the service")
        try:
            body = msgspec.json.encode({"type": "success", own: state.key, **fields})
        except TypeError as error:
            raise TypeError(f"reply: {error}") from None
        refuse_lost(body, fields, "reply")
        return body

    def _fault(self, command: Command | Emit, why: str, *, told: bool = False) -> Fault:
        if isinstance(command, Emit):
            return Fault(f"{self.entity.place}: an emit of an effect of {self.entity.kind}: {why}")
        handler = self.entity.decides[type(command)]
        text = f"{handler.__name__}, a handler of {self.entity.kind}.decide: {why}"
        return Fault(f"{place_of(handler)}: {text}", text if told else "")


def _context(state: Held, sent: Sent, context: engine.Context) -> Context:
    who = sent.who
    if who is None:
        return Context(state.key, now_ms=context.now_ms, command_id=sent.command_id)
    return Context(
        state.key, who.user_id, who.username, who.is_admin, who.groups, context.now_ms, sent.command_id
    )
