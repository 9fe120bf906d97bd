"""The state of an entity, computed from its stream by its `evolve` handlers. Pure."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from huahuo.actors.domain.code_fingerprint import print_of
from huahuo.actors.domain.entity import Entity, Handler
from huahuo.actors.domain.storable import key_of, structs_in
from huahuo.actors.domain.structs import Event, Fault, HandlerExit, place_of, traits
from huahuo.actors.timers.timer import Known
from huahuo.eventstore.model import StoredEvent

_STAMPED = ("type", "timestamp")
"""What an event has besides its fields: an upcast need not return it, and cannot change it."""
MEASURED_BYTES = 4 << 10
"""A state up to this size is measured after every event; a larger one after events of a part of its size."""
_MEASURED_PART = 16


class Held(Struct):
    """The state of one entity. `exists`: it has an event. `size`: its bytes when it was last measured."""

    key: int | str
    state: Any
    exists: bool = False
    size: int = 0
    since: int = 0
    """The bytes of the events since then."""
    timers: Known = msgspec.field(default_factory=Known)


class Form(Struct, frozen=True):
    """What is known of a class of events: its stored name, how a body is read, and what folds it."""

    name: str
    decode: Callable[[bytes], Any]
    handler: Handler


class Ahead(Struct, frozen=True):
    """The state after a decision's own events, of which there are `events` with bodies of `body_bytes`.

    It was folded from them as they are read back, so they need not be folded again. `size`: its bytes, 0 if
    it was not measured.
    """

    state: Any
    events: int
    body_bytes: int
    size: int = 0


class _Frame(Struct, array_like=True):
    exists: bool
    state: msgspec.Raw


class EntityFold:
    """A `Fold` of one kind of entity. Events of a type that today's code does not know change nothing."""

    name = "entity"

    def __init__(self, entity: Entity[Any]) -> None:
        self.entity = entity
        self._evolves = entity.evolves
        self._forms: dict[type, Form] = {
            cls: Form(traits(cls).name, msgspec.json.Decoder(cls).decode, handler)
            for cls, handler in entity.evolves.items()
        }
        self._by_name = {form.name: form for form in self._forms.values()}
        self._state = msgspec.msgpack.Decoder(entity.state)
        self._encode = msgspec.msgpack.Encoder().encode

    @property
    def fingerprint(self) -> str:
        """See `Fold`. The same as long as the process runs: what the code names may change meanwhile."""
        if not self.entity.code_print:
            self.look_at_code()
        return self.entity.code_print

    def look_at_code(self) -> None:
        """Note by which code states are made from now on. To be called before any of it runs."""
        self.entity.code_print = _fingerprint(self.entity)

    def initial(self, stream: str) -> Held:
        """See `Fold`."""
        key = key_of(stream.partition("/")[2], self.entity.key)
        return Held(key if key is not None else stream, self.entity.state())

    def evolve(self, state: Held, event: StoredEvent) -> Held:
        """See `Fold`. The same object comes back, with another state in it.

        Raises:
            ValueError: the stored body does not have the form of its type. Others: as the handler.
        """
        known = self._by_name.get(event.type)
        if known is not None:
            try:
                body = event.body if event.version >= self.entity.version else self.today(event)
                state.state = known.handler(state.state, known.decode(body))
            except Exception:
                raise
            except BaseException as error:
                raise HandlerExit(known.handler, error) from error
            state.since += len(event.body)
        state.exists = True
        self._measure(state)
        return state

    def knows(self, event_type: str) -> bool:
        """Whether an event of this stored name is folded, or retired. Any other is only carried."""
        return event_type in self._by_name or event_type in self.entity.retired

    def adopt(self, state: Held, after: Ahead) -> int:
        """See `Kind.adopt`. The same object holds the other state."""
        if after.events:
            state.exists = True
            state.state = after.state
            if after.size:
                state.size, state.since = after.size, 0
            else:
                state.since += after.body_bytes
                self._measure(state)
        return after.events

    def _measure(self, state: Held) -> None:
        if state.size <= MEASURED_BYTES or state.since > state.size // _MEASURED_PART:
            state.size, state.since = len(self._encode(state.state)), 0

    def today(self, event: StoredEvent) -> bytes:
        """The body of an event as today's version of its type has it. Raises Fault: an upcast gives none."""
        entity = self.entity
        if event.version >= entity.version or not entity.upcasts:
            return event.body
        fields: dict[str, Any] | None = None
        stamped: dict[str, Any] = {}
        for version in range(event.version, entity.version):
            step = entity.upcasts.get((event.type, version))
            if step is not None:
                if fields is None:
                    fields = msgspec.json.decode(event.body)
                    stamped = {name: fields[name] for name in _STAMPED if name in fields}
                given = step(fields)
                _must_be_fields(given, step)
                fields = {**stamped, **given, **stamped}
        return event.body if fields is None else msgspec.json.encode(fields)

    def current(self, event: StoredEvent) -> StoredEvent:
        """An event in today's version of its type, as readers get it. The stored bytes stay what they are."""
        if event.version >= self.entity.version:
            return event
        return msgspec.structs.replace(event, body=self.today(event), version=self.entity.version)

    def after(self, state: Any, event: Event) -> Any:
        """The state after an event that is not stored yet. Raises KeyError if nothing handles its class."""
        handler = self._evolves[type(event)]
        try:
            return handler(state, event)
        except Exception:
            raise
        except BaseException as error:
            raise HandlerExit(handler, error) from error

    def dump(self, state: Held) -> bytes:
        """See `Fold`."""
        return self._encode(_Frame(state.exists, msgspec.Raw(self._encode(state.state))))

    def load(self, stream: str, data: bytes) -> Held:
        """See `Fold`."""
        frame = msgspec.msgpack.decode(data, type=_Frame)
        held = self.initial(stream)
        held.state, held.exists, held.size = self._state.decode(frame.state), frame.exists, len(frame.state)
        return held

    def pack(self, state: Any) -> bytes:
        """A state (without what holds it) as bytes."""
        return self._encode(state)

    def unpack(self, data: bytes) -> Any:
        """The state of `pack`."""
        return self._state.decode(data)


def _fingerprint(entity: Entity[Any]) -> str:
    """Another one when the version, the form of the state or of an event, or their code changes.

    That is the code of the handlers and upcasts, of the methods of the state, and what all these name.
    """
    evolves = sorted(((traits(cls).name, handler) for cls, handler in entity.evolves.items()), key=_first)
    upcasts = sorted(entity.upcasts.items(), key=_first)
    code = [part for pair in (*evolves, *upcasts) for part in pair]
    forms = [_form(entity.state), *sorted(map(_form, entity.evolves))]
    return f"{entity.version}-{print_of(entity.version, *forms, *code, *structs_in(entity.state))}"


def _form(cls: type) -> bytes:
    return msgspec.json.encode(msgspec.json.schema(cls), order="sorted")


def _must_be_fields(given: object, step: Any) -> None:
    if not isinstance(given, dict):
        what, name = type(given).__name__, getattr(step, "__name__", "an upcast")
        raise Fault(f"{place_of(step)}: {name} returns {what}: return the fields, a dict")


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]
