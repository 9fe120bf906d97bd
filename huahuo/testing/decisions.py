"""Decisions of an entity as a specification, without a service.

    given(order, [Placed(42, "tea")]).when(Cancel(), user=42).then([Expired()])
    given(order, []).when(Place(""), user=42).refused("invalid_field")

Events go through the codec, each is folded twice, and all once more without those that `compact` may
remove: the states must be the same. A failure shows the test's own line, and what was expected and found
as a diff.

What a decision begins or cancels, as lines that a test compares: by name, or with all of it. Pure.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self
from unittest.mock import patch

import msgspec

from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.decider import EntityDecider
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.fold import Held
from huahuo.actors.domain.projection_rows import STREAMS as ROW_STREAMS
from huahuo.actors.domain.storable import as_json
from huahuo.actors.domain.structs import (
    After,
    CancelEffects,
    Command,
    Effect,
    Event,
    Every,
    To,
    ToStart,
    encode,
    holds_secret,
    place_of,
    traits,
)
from huahuo.actors.domain.writing import Sent
from huahuo.actors.entities import decider as engine
from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.model import Head, NewEvent, StoredEvent

_LEAST_MS = 1
"""A timer is due after the decision that sets it."""


def wanted(effects: Sequence[str | ToStart]) -> list[str]:
    """The lines that a test wants to see. Raises TypeError: one is neither a name nor what effects may be."""
    return [one if isinstance(one, str) else _said(one) for one in effects]


def begun(
    events: Sequence[NewEvent], like: Sequence[str | ToStart], now_ms: int, entity: Entity[Any]
) -> list[str]:
    """The lines of a decision's effects and timers, each told as its counterpart in `like`."""
    told: list[Mapping[str, Any]] = [msgspec.json.decode(event.body) for event in events]
    if any(isinstance(one, CancelEffects) for one in like):
        told = [one for one in told if one["type"] != "timers_cancelled"]  # one wish, two events
    by_name = [isinstance(one, str) for one in like] + [not like or isinstance(like[-1], str)] * len(told)
    return [
        _name(one) if short else _whole(one, now_ms, entity)
        for one, short in zip(told, by_name, strict=False)
    ]


def _said(effect: object) -> str:
    match effect:
        case Effect():
            return f"{traits(type(effect)).name} {_json(effect)}"
        case After(seconds, command, name) | Every(seconds, command, name):
            stored = traits(type(command)).name
            wait_ms = max(_LEAST_MS, round(seconds * 1000))
            every_ms = wait_ms if isinstance(effect, Every) else 0
            return _timer(name or stored, stored, _json(command), wait_ms, every_ms)
        case CancelEffects(cls):
            return f"cancel {'all' if cls is None else traits(cls).name}"
        case _:
            why = "is neither a name nor an effect, After, Every or CancelEffects"
            raise TypeError(f"then(effects=…): {effect!r:.60} {why}")


def _name(fields: Mapping[str, Any]) -> str:
    return str(fields.get("effect") or fields.get("name") or fields["type"])


def _whole(fields: Mapping[str, Any], now_ms: int, entity: Entity[Any]) -> str:
    match fields["type"]:
        case "effect_requested":
            return f"{fields['effect']} {_read(fields['job'], fields['effect'], entity.effects)}"
        case "timer_set":
            command = fields["command"]
            sent = _read(fields["fields"], command, entity.decides)
            return _timer(fields["name"], command, sent, fields["due_ms"] - now_ms, fields["every_ms"])
        case "effects_cancelled":
            return f"cancel {fields['effect'] or 'all'}"
        case _:
            return _name(fields)


def _timer(name: str, command: str, fields: str, wait_ms: int, every_ms: int) -> str:
    again = f", then every {every_ms / 1000:g} s" if every_ms else ""
    return f"timer {name}: {command} {fields} in {wait_ms / 1000:g} s{again}"


def _read(fields: object, name: str, classes: Iterable[type[Command | Effect]]) -> str:
    """The stored fields of an effect or a command."""
    cls = next(cls for cls in classes if traits(cls).name == name)
    return plain(msgspec.json.encode(fields), cls)


def _json(value: Command | Effect) -> str:
    return plain(msgspec.json.encode(value), type(value))


def plain(body: bytes, cls: type) -> str:
    """The JSON of a struct, alike for equal ones: sets have no order, and that of dicts says nothing."""
    try:
        value: object = msgspec.json.decode(body, type=cls)
    except msgspec.ValidationError:  # a value of another type: it is shown as it is
        return body.decode()
    return as_json(value).decode()


NOW_MS = 1_790_000_000_000


def given(
    entity: Entity[Any],
    events: Iterable[Event] = (),
    *,
    id: int | str | None = None,  # noqa: A002  the word of the context
) -> "Given":
    """An entity to which these events have happened."""
    __tracebackhide__ = True
    _must_be(entity, Entity, "given(…)", "the Entity, as in given(order, [Placed(…)])")
    key = id if id is not None else 1 if entity.key is int else "key"
    return Given(entity, key, _listed(events, "given(…)"))


class Given:
    """See the module. `state`: the state after the events."""

    def __init__(self, entity: Entity[Any], key: int | str, events: Sequence[Event]) -> None:
        __tracebackhide__ = True
        self._entity = entity
        self._stream = f"{entity.kind}/{key}"
        self._decider = EntityDecider(entity, Catalog([entity]))
        self._stored = [self._new(seq, event) for seq, event in enumerate(events, 1)]
        held = self._folded(self._stored)
        kept = self._without_superseded()
        if len(kept) < len(self._stored):
            short = self._folded(kept)
            if short.state != held.state:
                what = "the state depends on events that are prunable=True and superseded"
                raise AssertionError(_differ(what, [held.state], [short.state]))
        self._held = held
        self._decision: engine.Decision[Any, Any] | None = None
        self._now_ms = NOW_MS

    @property
    def state(self) -> Any:
        """The state after the given events, and after those of the last decision."""
        return self._held.state

    def when(
        self,
        command: Command,
        *,
        user: UserId | None = None,
        username: str = "",
        admin: bool = False,
        groups: tuple[str, ...] = (),
        now_ms: int = NOW_MS,
        command_id: str = "test",
    ) -> Self:
        """Decide this command, as a client of this user sends it, or (without a user) as the service does."""
        __tracebackhide__ = True
        _must_be(command, Command, "when(…)", "a command, as in when(Place(…))")
        who, self._now_ms = None, now_ms
        if user is not None:
            who = Principal(user, username or str(user), is_admin=admin, groups=groups)
        if not holds_secret(type(command)):
            command = msgspec.json.decode(msgspec.json.encode(command), type=type(command))
        context = engine.Context(
            now_ms=now_ms, timestamp=rfc3339(now_ms), take=_any_number, head=lambda _stream: Head().seq
        )
        self._decision = self._decider.decide(self._held, Sent(command, who, command_id), context)
        return self

    def then(
        self, events: Iterable[Event | To] = (), *, effects: Sequence[str | ToStart] | None = None
    ) -> Self:
        """The decision has exactly these events; `effects`: and exactly these effects and timers.

        An effect or timer is compared by its name (`"pack"`), or with all that it says (`Pack(3)`).
        """
        __tracebackhide__ = True
        decision = self._decided()
        refused = _refusal_in(decision)
        internal = (f"effect/{self._stream}", f"timer/{self._stream}")
        told = [
            event
            for event in decision.events
            if event.stream not in internal and not event.stream.startswith(ROW_STREAMS)
        ]
        wanted_events = _listed(events, "then(…)")
        classes = self._classes(wanted_events)
        actual = (
            [f"refused: {refused}"]
            if refused
            else [_line(event.stream, event.body, classes.get(event.type)) for event in told]
        )
        expected = [self._expected(event) for event in wanted_events]
        if actual != expected:
            raise AssertionError(_differ("the decision has other events", expected, actual))
        if effects is not None:
            lines = wanted(effects)
            own = [event for event in decision.events if event.stream in internal]
            started = begun(own, effects, self._now_ms, self._entity)
            if started != lines:
                raise AssertionError(_differ("the decision has other effects", lines, started))
        self._go_on(decision.events)
        return self

    def refused(self, code: str) -> Self:
        """The decision is a refusal with this code."""
        __tracebackhide__ = True
        decision = self._decided()
        actual = _refusal_in(decision)
        if actual is None or actual.partition(":")[0] != code:
            lines = [actual] if actual else [_line(event.stream, event.body) for event in decision.events]
            raise AssertionError(_differ(f"not refused with {code}", [code], lines))
        return self

    def replies(self, **fields: Any) -> Self:
        """The reply has these fields, and may have others."""
        __tracebackhide__ = True
        said = msgspec.json.decode(self._decided().reply.body, type=dict[str, Any])
        actual = {name: said.get(name) for name in fields}
        if actual != fields:
            raise AssertionError(_differ("another reply", [fields], [actual]))
        return self

    def _decided(self) -> engine.Decision[Any, Any]:
        __tracebackhide__ = True
        if self._decision is None:
            raise AssertionError("write .when(command) first")
        return self._decision

    def _go_on(self, events: Sequence[NewEvent]) -> None:
        __tracebackhide__ = True
        own = [event for event in events if event.stream == self._stream]
        for event in own:
            stored = self._numbered(len(self._stored) + 1, event)
            self._stored.append(stored)
            self._held = self._evolved(self._held, stored)

    def _expected(self, event: Event | To) -> str:
        stream, inner = (event.stream, event.event) if isinstance(event, To) else (self._stream, event)
        return _line(stream, encode(inner, rfc3339(NOW_MS)), type(inner))

    def _classes(self, expected: Iterable[Event | To]) -> dict[str, type[Event]]:
        """By stored name, the classes of the entity's events and of those that are expected."""
        theirs: list[type] = [type(event.event if isinstance(event, To) else event) for event in expected]
        known = (*self._entity.evolves, *(cls for cls in theirs if issubclass(cls, Event)))
        return {traits(cls).name: cls for cls in known}

    def _new(self, seq: int, event: Event) -> StoredEvent:
        __tracebackhide__ = True
        body, name = encode(event, rfc3339(NOW_MS)), traits(type(event)).name
        if type(event) not in self._entity.evolves:
            kind, what = self._entity.kind, type(event).__name__
            raise AssertionError(f"no evolve of {kind} handles {what}: write @{kind}.evolve for it")
        try:
            msgspec.json.decode(body, type=type(event))
        except msgspec.ValidationError as error:
            raise AssertionError(f"{type(event).__name__} has a value of another type: {error}") from None
        return self._numbered(seq, NewEvent(self._stream, name, body, self._entity.version, self._stream))

    def _numbered(self, seq: int, event: NewEvent) -> StoredEvent:
        return StoredEvent(
            seq, event.stream, seq, event.type, event.body, event.version, NOW_MS, event.entity, "", "", 0,
            "test", b"",
        )  # fmt: skip

    def _folded(self, events: Sequence[StoredEvent]) -> Held:
        __tracebackhide__ = True
        held = self._decider.initial(self._stream)
        for event in events:
            held = self._evolved(held, event)
        again = self._decider.load(self._stream, self._decider.dump(held))
        if again.state != held.state:
            what = "the state changes when it is stored and read again"
            raise AssertionError(_differ(what, [held.state], [again.state]))
        return again

    def _evolved(self, held: Held, event: StoredEvent) -> Held:
        """Fold an event twice, the second time at another time. Raises AssertionError: the states differ."""
        __tracebackhide__ = True
        twin = self._decider.load(self._stream, self._decider.dump(held))
        after = self._decider.evolve(held, event)
        with patch("time.time", lambda: 0.0), patch("time.time_ns", lambda: 0):
            again = self._decider.evolve(twin, event)
        if after.state != again.state:
            [handler] = [one for cls, one in self._entity.evolves.items() if traits(cls).name == event.type]
            what = (
                f"{place_of(handler)}: {handler.__name__} makes two states of one event: it may use neither"
            )
            raise AssertionError(_differ(f"{what} clock nor chance", [after.state], [again.state]))
        return after

    def _without_superseded(self) -> list[StoredEvent]:
        """The events that stay when the log is compacted: of each prunable type the last one."""
        prunable = {traits(cls).name for cls in self._entity.evolves if traits(cls).prunable}
        last = {event.type: event.seq for event in self._stored}
        return [one for one in self._stored if one.type not in prunable or last[one.type] == one.seq]


def _any_number(_counter: str, _count: int = 1) -> int:
    return 1  # of an effect, which nobody runs here


def _refusal_in(decision: engine.Decision[Any, Any]) -> str | None:
    if not decision.reply.refused:
        return None
    said = msgspec.json.decode(decision.reply.body, type=dict[str, Any])
    return f"{said['code']}: {said['message']}"


def _line(stream: str, body: bytes, cls: type[Event] | None = None) -> str:
    """An event as a line: equal ones are alike, if its class is known."""
    if cls is not None:
        body = plain(body, cls).encode()
    fields = msgspec.json.decode(body, type=dict[str, Any])
    name = fields.pop("type")
    fields.pop("timestamp", None)
    return f"{stream} {name} {msgspec.json.encode(fields).decode()}"


def _must_be(given: object, wanted: type, where: str, takes: str) -> None:
    """Raises TypeError: it is something else, which the message names."""
    __tracebackhide__ = True
    if isinstance(given, wanted):
        return
    name = getattr(given, "__name__", "")
    hint = (
        f"{name} is a class: write {name}(…)" if isinstance(given, type) and issubclass(given, wanted) else ""
    )
    raise TypeError(f"{where} takes {takes}: {hint or f'{given!r:.60} is none'}")


def _listed[T](given: Iterable[T], where: str) -> Sequence[T]:
    """Raises TypeError: it is one event, not a list of them."""
    __tracebackhide__ = True
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{where} takes a list of events: write [ ] around {type(given).__name__}(…)")
    return [*given]


def _differ(what: str, expected: Sequence[Any], actual: Sequence[Any]) -> str:
    lines = difflib.ndiff([str(one) for one in expected], [str(one) for one in actual])
    shown = "\n".join(line for line in lines if not line.startswith("?"))
    return f"{what} (- expected, + actual):\n{shown or '(none)'}"
