"""What one decision writes, as the log's own structs; its command (`Sent`) and answer (`Done`). Pure.

Effects are facts on the entity's internal stream `effect/<kind>/<key>`, and timers
(`huahuo.actors.timers`) on `timer/<kind>/<key>`, so readers of the entity never see their arguments.
Refusals are decisions too; an application may not use the codes in `NOT_FINAL` for its own.
"""

import re
from collections.abc import Container, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final

import msgspec
from msgspec import Struct

from huahuo.actors.domain import projection_rows
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.fold import Form
from huahuo.actors.domain.projection_rows import OverBound
from huahuo.actors.domain.storable import is_own_stream, refuse_lost
from huahuo.actors.domain.structs import (
    After,
    CancelEffects,
    Command,
    Decision,
    Drop,
    Effect,
    Event,
    Every,
    Fault,
    Put,
    Refused,
    To,
    encode,
    traits,
)
from huahuo.actors.effects import facts as effects
from huahuo.actors.effects.facts import Guard
from huahuo.actors.entities import decider as engine
from huahuo.actors.entities.decider import Context
from huahuo.actors.plugins import en
from huahuo.actors.plugins.calls import TEXT_CHARS_MAX, Principal, Refusal, UserId, error_body
from huahuo.actors.timers.timer import Changes, Timer
from huahuo.eventstore.limits import EVENT_BYTES_MAX
from huahuo.eventstore.model import NewEvent, RowDrop, RowPut, Secret, SecretPut


class Emit(Struct, frozen=True):
    """Events that a run of an effect appends: a decision that is made already."""

    events: tuple[Event | To, ...]


class Sent(Struct, frozen=True):
    """A command on its way to an entity. `who` is None for the service, timers and effects.

    `guard`: it comes from a run of an effect, and holds only while the run does. `payer`: for whom, if not
    for `who`, the effects of its decision will be. `timer`: the one that sends it. It ends, or moves to its
    next time, with whatever is decided. `trace`: the place in a trace of what it comes from, if that is
    not its id. `readable`: the application's `authorize` lets `who` read it.
    """

    command: Command | Emit
    who: Principal | None = None
    command_id: str = ""
    guard: Guard | None = None
    payer: UserId | None = None
    timer: Timer | None = None
    readable: bool = False
    trace: str = ""


class Done(Struct, frozen=True):
    """The answer of an entity: the JSON object of the reply. `refused`: it is an error.

    `moved`: the command's guard does not hold at this place of the books, so nothing was decided. `state`:
    that after the decision, for a run of an effect.
    """

    body: bytes
    refused: bool = False
    moved: bool = False
    state: Any = None


NOT_FINAL: Final = frozenset(
    {
        "unavailable",
        "busy",
        "rate_limited",
        "internal",
        "unauthenticated",
        "corrupt",
        "storage_full",
        "quota_exceeded",
    }
)
"""Codes after which a client repeats the command: an application's own refusal may have none of them."""


def not_found(entity: Entity[Any]) -> Refused:
    """The entity has no event, or the user may not read it."""
    return Refused("not_found", en.NO_SUCH.format(entity.kind))


def refusal(refused: Refused) -> engine.Decision[Done, Any]:
    """A decision that records the refusal and appends no event. Raises Fault: its details are too large."""
    size = 0 if isinstance(refused.details, str) else len(msgspec.json.encode(refused.details))
    if size > TEXT_CHARS_MAX:
        raise Fault(f"Refused({refused.code!r}): details of {size} bytes, at most {TEXT_CHARS_MAX}: say less")
    body = error_body(Refusal(refused.code, refused.message, refused.details))
    return engine.Decision(reply=Done(body, refused=True), record=body)


def too_many(decision: Decision, most: int) -> engine.Decision[Done, Any]:
    """The refusal of a decision with more than `most` events, effects or rows."""
    counts = {
        "events": len(decision.events),
        "effects": len(decision.effects),
        "rows": len(decision.rows),
    }
    what, count = max(counts.items(), key=itemgetter(1))
    return too_large(en.TOO_MANY.format(count, what, most))


def too_large(why: str) -> engine.Decision[Done, Any]:
    """The refusal of a decision that exceeds a bound in bytes or rows."""
    return refusal(Refused("too_large", why))


CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SECRET_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TIMER_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class Writing:
    """Gathers what a decision writes. `own` are the events of the entity's own stream, as they are read back.

    `rows` are those of its effects and projections; `to_start` is what the effects' runner learns after the
    commit. `user`: for whom the effects will be. `trace`: the place in a trace of what asks for them.
    `command_id`: of a command whose append may be shared, for its events.
    """

    __slots__ = (
        "_catalog", "_command_id", "_context", "_effect_bytes_max", "_entity", "_forms", "_stream",
        "_timers", "_trace", "_user", "events", "own", "own_bytes", "rows", "to_start",
    )  # fmt: skip

    def __init__(
        self,
        entity: Entity[Any],
        catalog: Catalog,
        stream: str,
        context: Context,
        timers: Changes,
        forms: Mapping[type, Form],
        *,
        user: UserId | None = None,
        trace: str = "",
        effect_bytes_max: int = 1 << 20,
        command_id: str = "",
    ) -> None:
        self._entity = entity
        self._forms = forms
        self._catalog = catalog
        self._stream = stream
        self._context = context
        self._user = user
        self._trace = trace
        self._command_id = command_id
        self._effect_bytes_max = effect_bytes_max
        self.rows: list[RowPut | RowDrop] = []
        self.to_start: list[effects.Start | effects.Cancel] = []
        self._timers = timers
        self.events: list[NewEvent] = []
        self.own: list[Event] = []
        self.own_bytes = 0

    def event(self, event: object) -> None:
        """Add an event, or one for another stream.

        Raises:
            TypeError, ValueError: it is no event, its stream is not the application's, or nothing handles it.
        """
        form = self._forms.get(type(event))
        if form is not None:
            assert isinstance(event, Event), "nothing else is handled"
            body, read = as_read(form, event, self._context.timestamp)
            self._add(self._stream, form.name, body)
            self.own_bytes += len(body)
            self.own.append(read)
            return
        match event:
            case To(stream, inner):
                owner = self._catalog.owners.get(type(inner))
                if owner not in (None, self._entity):
                    raise ValueError(f"{type(inner).__name__} belongs to Entity({owner.kind!r})")
                if not is_own_stream(stream, self._catalog.by_kind):
                    raise ValueError(
                        f"to({stream!r}, …): events go to user/…, group/…, system or a kind without entity"
                    )
                self._add(stream, traits(type(inner)).name, checked(inner, self._context.timestamp))
            case Event():
                name = type(event).__name__
                raise ValueError(f"no evolve handles {name}: write @{self._entity.kind}.evolve for it")
            case type():
                raise TypeError(f"{event.__name__} is a class: write {event.__name__}(…)")
            case _:
                name = type(event).__name__
                if isinstance(event, Effect | After | Every | CancelEffects):
                    raise TypeError(f"{name} is no event: write Decision(events, effects=[{name}(…)])")
                if isinstance(event, Put | Drop):
                    raise TypeError(f"{name} is no event: write Decision(events, rows=[{name}(…)])")
                raise TypeError(f"{name} is no event")

    def effect(self, effect: object) -> None:
        """Add an effect, a timer, or the end of effects.

        Raises:
            TypeError, ValueError: it is none of them, or nothing handles it.
            OverBound: its arguments have too many bytes.
        """
        match effect:
            case After(seconds, command, name):
                self._timer(seconds, command, name, every=False)
            case Every(seconds, command, name):
                self._timer(seconds, command, name, every=True)
            case CancelEffects(cls):
                which = None if cls is None else traits(cls).name
                if cls is None:
                    self._timers.cancel()
                self.events.append(effects.cancel(self._stream, which, self._context.timestamp))
                self.to_start.append(effects.Cancel(which))
            case Effect():
                self._effect(effect)
            case type():
                raise TypeError(f"{effect.__name__} is a class: write {effect.__name__}(…)")
            case _:
                raise TypeError(f"{type(effect).__name__} is no Effect, After, Every or CancelEffects")

    def projected(self, changes: Iterable[Put | Drop], derived: Container[str] = ()) -> None:
        """Add rows of projections, and the facts that record them. `derived`: tables that may have none.

        Raises:
            TypeError, ValueError: a row cannot be stored, or its table is a derived one.
            OverBound: it has too many bytes.
        """
        rows = []
        for change in changes:
            rows.append(projection_rows.row(change))
            if change.table in derived:
                why = f"rows of {change.table!r} follow from states"
                raise ValueError(f"rows: {why}, by @….rows({change.table!r}): leave this one out")
        self.rows += rows
        self.events += projection_rows.facts(rows, self._stream, self._context.timestamp)

    def _effect(self, effect: Effect) -> None:
        name = type(effect).__name__
        if type(effect) not in self._entity.effects:
            raise ValueError(f"no effect handles {name}: write @{self._entity.kind}.effect for it")
        job = msgspec.json.encode(effect)
        refuse_lost(job, effect, name)
        if len(job) > self._effect_bytes_max:
            raise OverBound(en.JOB_TOO_LARGE.format(name, len(job), self._effect_bytes_max))
        kind, _, key = self._stream.partition("/")
        row = effects.OpenEffect(
            kind, key, traits(type(effect)).name, msgspec.Raw(job), self._context.now_ms, self._user,
            trace=self._trace, seq=self._context.head(effects.stream_of(self._stream)),
        )  # fmt: skip
        id_ = self._context.take(effects.COUNTER, 1)
        event, put = effects.request(id_, row, self._context.timestamp)
        self.events.append(event)
        self.rows.append(put)
        self.to_start.append(effects.Start(id_, row))

    def _timer(self, seconds: float, command: Command, name: str, *, every: bool) -> None:
        if type(command) not in self._entity.decides:
            raise ValueError(f"no decide of {self._entity.kind} handles {type(command).__name__}")
        stored = traits(type(command)).name
        name = name or stored
        if not _TIMER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a timer: use 1 to 64 letters, digits or _ . : -")
        fields = msgspec.json.encode(command)
        refuse_lost(fields, command, type(command).__name__)
        self._timers.set(name, stored, fields, round(seconds * 1000), every=every)

    def _add(self, stream: str, name: str, body: bytes) -> None:
        self.events.append(NewEvent(stream, name, body, self._entity.version, self._stream, self._command_id))


def as_read(form: Form, event: Event, timestamp: str) -> tuple[bytes, Event]:
    """The body of an event of the entity's own stream, and the event as every later start reads it.

    Constructors check no types, so reading is the check.

    Raises:
        TypeError, ValueError: it cannot be stored. OverBound: it has too many bytes.
    """
    body = encode(event, timestamp)
    if len(body) > EVENT_BYTES_MAX or b"null" in body:
        body = checked(event, timestamp)
    try:
        return body, form.decode(body)
    except msgspec.ValidationError as error:
        raise ValueError(f"{type(event).__name__} has a value of another type: {error}") from None


def checked(event: Event, timestamp: str) -> bytes:
    """The body of an event. Raises as `as_read`."""
    body = encode(event, timestamp)
    refuse_lost(body, event, type(event).__name__)
    if len(body) > EVENT_BYTES_MAX:
        raise OverBound(en.EVENT_TOO_LARGE.format(traits(type(event)).name, len(body), EVENT_BYTES_MAX))
    return body


def secrets(owner: str, named: Mapping[str, Secret | str]) -> tuple[SecretPut, ...]:
    """Secrets to seal under the entity's key. Raises TypeError, ValueError: a name or a value is none."""
    if not isinstance(named, Mapping):
        raise TypeError('secrets: write {"password": …}')
    for name, value in named.items():
        if not isinstance(value, Secret | str):
            raise TypeError(f"secrets: {name!r} is a text or a Secret, not {type(value).__name__}")
    wrong = [name for name in named if not _SECRET_NAME.fullmatch(name)]
    if wrong:
        raise ValueError("secrets: a name has 1 to 64 letters, digits or _ . -")
    return tuple(
        SecretPut(owner, name, value if isinstance(value, Secret) else Secret(value))
        for name, value in named.items()
    )
