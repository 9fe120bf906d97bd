"""The entities of one application, checked together before the service starts. Pure.

What a single declaration shows is refused where it is made (`structs`, `handlers`, `entity`). What needs
all of them, or names that are defined later in the file, is refused here.

Events, effects and commands that nothing handles, found before an application starts. Pure.

Events, effects and the commands of timers are values that a `decide` makes, so a missing handler would show
only when that happens. But the code of the `decide` names the class, or a function does that it calls.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from huahuo.actors.domain.code_fingerprint import package_of, values_in
from huahuo.actors.domain.entity import Entity, Handler
from huahuo.actors.domain.storable import one_line, unstorable
from huahuo.actors.domain.structs import (
    Command,
    DefinitionError,
    Effect,
    EffectFailed,
    Event,
    To,
    holds_secret,
    place_of,
    place_of_user,
    to,
    traits,
)
from huahuo.actors.plugins.actions import CONNECTION_ACTIONS, SERVICE_ACTIONS
from huahuo.eventstore.model import Secret

_log = structlog.get_logger(__name__)

_IN_EVERY_COMMAND = frozenset({"action", "id"})
_USE = "use numbers, texts, lists, dicts, sets, Structs and dates"


class Catalog:
    """See the module. `by_kind`, `by_action` and `owners` (the entity of a class) are tables to read.

    Raises:
        DefinitionError: the declarations contradict each other. The message says what to write.
    """

    def __init__(self, entities: Iterable[Entity[Any]]) -> None:
        self.by_kind: dict[str, Entity[Any]] = {}
        self.by_action: dict[str, tuple[Entity[Any], type[Command]]] = {}
        self.owners: dict[type, Entity[Any]] = {}
        self._types: dict[str, type] = {}
        self._asked: dict[str, Entity[Any]] = {}
        """By action of a query, whose it is."""
        self._derived: dict[str, list[Entity[Any]]] = {}
        self.table_codes: dict[str, bytes] = {}
        """By table, what changes with the code that makes it, once `rebuilding` has looked at it."""
        for entity in entities:
            if not isinstance(entity, Entity):
                raise DefinitionError(
                    f"{place_of_user()}: entities: {entity!r:.60} is no Entity: write entities=[order]"
                )
            self._add(entity)
        for entity in self.by_kind.values():
            self._check_queries(entity)

    @property
    def event_types(self) -> frozenset[str]:
        """The stored names of the events that an entity handles: nobody may publish them."""
        return frozenset(self._types)

    @property
    def right_types(self) -> frozenset[str]:
        """Those after which readers are judged again."""
        return frozenset(name for name, cls in self._types.items() if traits(cls).rights)

    @property
    def prunable_types(self) -> frozenset[str]:
        """Those that `huahuo compact` may reduce to the last one."""
        return frozenset(name for name, cls in self._types.items() if traits(cls).prunable)

    @property
    def derived(self) -> Mapping[str, Sequence[Entity[Any]]]:
        """By table, the entities whose states say which rows it has."""
        return self._derived

    def refuse_late(self) -> None:
        """Refuse a command of clients that was declared after the catalog was made: it is not in it.

        Raises:
            DefinitionError: there is one.
        """
        for entity in self.by_kind.values():
            for cls, handler in entity.decides.items():
                if traits(cls).action and cls not in self.owners:
                    why = "it is declared after Huahuo(…) was called: write app = Huahuo(…) below it"
                    raise DefinitionError(f"{place_of(handler)}: {handler.__name__}, of {entity.kind}: {why}")

    def warn(self) -> None:
        """Say once, at the start, what works and is seldom meant."""
        for entity in self.by_kind.values():
            if entity.may_read is None:
                write = f"write @{entity.kind}.readers def may_read(state, who)"
                _log.warning(
                    "entity_without_readers", kind=entity.kind, place=entity.place, who="administrators only",
                    what_to_write=write,
                )  # fmt: skip

    def _add(self, entity: Entity[Any]) -> None:
        other = self.by_kind.get(entity.kind)
        if other is not None:
            _refuse(entity, f"the kind is taken by {other.place}: choose another kind")
        self.by_kind[entity.kind] = entity
        for table in entity.tables:
            self._derived.setdefault(table, []).append(entity)
        _check_state(entity)
        _check_listed(entity)
        self._own(entity)
        for cls in entity.decides:
            self._check_command(entity, cls)
        _check_upcasts(entity)

    def _own(self, entity: Entity[Any]) -> None:
        for cls in (*entity.evolves, *entity.decides, *entity.effects):
            if cls is EffectFailed:
                continue  # every entity may decide it
            owner = self.owners.get(cls)
            if owner is not None:
                why = f"it is handled by Entity({owner.kind!r}) and by Entity({entity.kind!r})"
                _refuse_class(cls, f"{why}: a class belongs to one entity, so write a second class")
            self.owners[cls] = entity
        names: dict[tuple[type, str], type] = {}
        for cls in (*entity.evolves, *_declared(entity.events), *entity.decides, *entity.effects):
            name, base = traits(cls).name, _base_of(cls)
            twin = self._types.get(name) if base is Event else names.get((base, name))
            if twin is not None and twin is not cls:
                word = "type" if base is Event else "name"
                why = f"the stored name {name!r} is that of {twin.__name__} in {place_of(twin)}"
                _refuse_class(cls, f"{why}: write another {word}=")
            if base is Event:
                self._types[name] = cls
            names[base, name] = cls
            if base is not Command and holds_secret(cls):
                _refuse_class(cls, "it holds a secret and would be stored: use Decision(secrets={…})")
            _check_codec(cls)

    def _check_command(self, entity: Entity[Any], cls: type[Command]) -> None:
        said = traits(cls)
        if not said.action:
            return
        taken = {*_IN_EVERY_COMMAND, f"{entity.kind}_id"}.intersection(_fields(cls))
        if taken:
            _refuse_class(
                cls, f"a field may not be called {min(taken)!r}: every message has one of that name"
            )
        if (name := _secret_in_code(cls)) is not None:
            _refuse_class(
                cls, f"the default of {name!r} is a secret in code: write {name}: Secret | None = None"
            )
        if said.action in CONNECTION_ACTIONS | SERVICE_ACTIONS:
            why = f"the action {said.action!r} belongs to the service"
            _refuse_class(cls, f"{why}: write another action=")
        owner = self.by_action.get(said.action)
        if owner is not None:
            why = f"the action {said.action!r} is that of {owner[1].__name__} in {place_of(owner[1])}"
            _refuse_class(cls, f"{why}: write another action=")
        self.by_action[said.action] = (entity, cls)

    def _check_queries(self, entity: Entity[Any]) -> None:
        for query in entity.queries.values():
            where = f"{place_of(query.answer)}: {entity.kind}.query({query.action!r})"
            command = self.by_action.get(query.action)
            if command is not None:
                why = f"it is the action of {command[1].__name__} in {place_of(command[1])}"
                raise DefinitionError(f"{where}: {why}: write another action")
            other = self._asked.setdefault(query.action, entity)
            if other is not entity:
                why = f"{place_of(other.queries[query.action].answer)} answers it already"
                raise DefinitionError(f"{where}: {why}: write another action")


def creates(entity: Entity[Any], cls: type[Command]) -> bool:
    """Whether a command of this class may be the first of its entity.

    Of a kind with natural keys any command may, unless one of them says `creates`.
    """
    if traits(cls).creates:
        return True
    return entity.key is str and not any(traits(other).creates for other in entity.decides)


def _declared(classes: tuple[type, ...] | None) -> tuple[type, ...]:
    return classes or ()


def _check_state(entity: Entity[Any]) -> None:
    state: Any = entity.state
    if not (isinstance(state, type) and issubclass(state, Struct) and state.__struct_config__.frozen):
        name = getattr(state, "__name__", repr(state))
        _refuse(entity, f"the state {name} must not change in place: write class {name}(Struct, frozen=True)")
    if state.__struct_config__.array_like:
        _refuse(entity, f"the state {state.__name__} has names for its fields: leave out array_like=True")
    try:
        empty = state()
    except TypeError as error:
        _refuse(entity, f"the state {state.__name__} needs a default for every field: {error}")
    try:
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(empty), type=state)
        shown = msgspec.json.decode(msgspec.json.encode(empty), type=state)
        msgspec.json.schema(state)
    except Exception as error:  # noqa: BLE001  whatever a type that the codec does not know raises
        _refuse(entity, f"the state {state.__name__} cannot be stored: {_why(state, error)}")
    if (wrong := unstorable(state)) is not None:
        _refuse(entity, f"the state {state.__name__} cannot be stored: {wrong}: {_USE}")
    if again != empty or shown != empty:
        why = f"the state {state.__name__} changes when it is stored and read again"
        _refuse(entity, f"{why}: compare {empty!r} with {again if again != empty else shown!r}")


def _why(cls: type, error: Exception) -> str:
    """What is wrong with a field, and what to write."""
    if isinstance(error, NameError):
        return f"{one_line(error)}: define it, or import it, above the class"
    return f"{unstorable(cls) or one_line(error)}: {_USE}"


def _check_codec(cls: type) -> None:
    """Whether the codec knows the types of the fields."""
    if holds_secret(cls):
        return  # a command's: it is decoded by a hook, and never stored
    try:
        msgspec.json.Decoder(cls)
        msgspec.json.schema(cls)
    except Exception as error:  # noqa: BLE001  an unknown name, or a type that the codec does not know
        _refuse_class(cls, f"it cannot be stored: {_why(cls, error)}")
    if (wrong := unstorable(cls)) is not None:
        _refuse_class(cls, f"it cannot be stored: {wrong}: {_USE}")


def _check_listed(entity: Entity[Any]) -> None:
    lists: Iterator[tuple[str, tuple[type, ...] | None, Any]] = iter(
        (("evolve", entity.events, entity.evolves), ("decide", entity.commands, entity.decides))
    )
    for word, listed, handlers in lists:
        if listed is None:
            continue
        missing = [cls for cls in listed if cls not in handlers]
        if missing:
            name = missing[0].__name__
            _refuse_class(missing[0], f"no handler: write @{entity.kind}.{word} def …(state, …: {name})")
        extra = [cls for cls in handlers if cls not in listed]
        if extra:
            given = "events" if word == "evolve" else "commands"
            _refuse_class(extra[0], f"it has a handler and is not in {given}=[…] of Entity({entity.kind!r})")


def _check_upcasts(entity: Entity[Any]) -> None:
    for (name, version), step in entity.upcasts.items():
        where = f"{place_of(step)}: {entity.kind}.upcast({name!r}, from_version={version})"
        if version >= entity.version:
            write = f"write Entity({entity.kind!r}, …, version={version + 1})"
            raise DefinitionError(f"{where}: the entity's version is {entity.version}: {write}")
        names = sorted({traits(cls).name for cls in entity.evolves})
        if name not in names:
            write = f"write one of those that an evolve handles: {', '.join(names) or 'there is none'}"
            raise DefinitionError(f"{where}: no event of {entity.kind} has that stored name: {write}")


def _base_of(cls: type) -> type:
    return next(base for base in (Event, Command, Effect) if issubclass(cls, base))


def _fields(cls: Any) -> tuple[str, ...]:
    return tuple(cls.__struct_encode_fields__)


def _secret_in_code(cls: Any) -> str | None:
    """A field whose default is a secret. The description of the service's commands has their defaults."""
    defaults = cls.__struct_defaults__
    named = zip(cls.__struct_fields__[len(cls.__struct_fields__) - len(defaults) :], defaults, strict=True)
    return next((name for name, default in named if isinstance(default, Secret)), None)


def _refuse(entity: Entity[Any], why: str) -> Any:
    raise DefinitionError(f"{entity.place}: Entity({entity.kind!r}): {why}")


def _refuse_class(cls: type, why: str) -> Any:
    raise DefinitionError(f"{place_of(cls)}: class {cls.__name__}({_base_of(cls).__name__}): {why}")


_FUNCTIONS_MAX: Final = 1_000
"""Functions of an application that are looked at for one `decide`."""
_BASES: Final = frozenset({Command, Effect, EffectFailed, Event})


def refuse_unhandled(entities: Iterable[Entity[Any]]) -> None:
    """Refuse a class that a `decide` names, or that clients would send, if nothing handles it.

    Raises:
        DefinitionError: it has one. The message says what to write.
    """
    known = tuple(entities)
    handled = {cls for entity in known for cls in (*entity.decides, *entity.effects, *entity.evolves)}
    for entity in known:
        for cls, handler in entity.decides.items():
            _refuse_named(entity, cls, handler, handled)
    for module, kinds in _modules(known):
        _refuse_undecided(module, kinds, handled)


def _refuse_named(entity: Entity[Any], of: type, handler: Handler, handled: set[type]) -> None:
    named = list(_named(handler))
    own = [] if To in named else _own(handler)  # `to` puts events where none is evolved
    for cls in named:
        made = Command | Effect | Event if cls in own else Command | Effect
        if cls in _BASES or not issubclass(cls, made) or _is_handled(cls, handled):
            continue
        decide = f"{handler.__name__}, the decide of {of.__name__} in {place_of(handler)}"
        if issubclass(cls, Effect):
            base, write = "Effect", f"@{entity.kind}.effect async def …(job: {cls.__name__}, run)"
        elif issubclass(cls, Event):
            base, write = "Event", f"@{entity.kind}.evolve def …(state, event: {cls.__name__})"
        else:
            base, write = "Command", f"@{entity.kind}.decide def …(state, command: {cls.__name__}, ctx)"
        raise DefinitionError(
            f"{place_of(cls)}: class {cls.__name__}({base}): no handler, and {decide}, names it:"
            f" write {write}"
        )


def _refuse_undecided(module: Mapping[str, Any], kinds: list[str], handled: set[type]) -> None:
    """Refuse a command with an action in a module of entities, if no entity there decides it."""
    values = list(module.values())
    here = [entity for entity in values if isinstance(entity, Entity)]
    if not {entity.kind for entity in here}.issuperset(kinds):
        return  # a function makes the entities, and may make others with other commands
    for entity in here:  # also those that this application leaves out
        handled = handled.union(entity.decides)
    for cls in values:
        if not (
            isinstance(cls, type) and issubclass(cls, Command) and cls.__module__ == module.get("__name__")
        ):
            continue
        action = "" if cls in _BASES else traits(cls).action
        if action and not _is_handled(cls, handled):
            kind = kinds[0] if len(kinds) == 1 else "…"
            write = f"@{kind}.decide def …(state, command: {cls.__name__}, ctx), or remove the class"
            raise DefinitionError(
                f"{place_of(cls)}: class {cls.__name__}(Command): no handler for {action!r}: write {write}"
            )


def _is_handled(cls: type, handled: set[type]) -> bool:
    """Whether it has a handler, or is the base of a class that has."""
    return cls in handled or any(issubclass(one, cls) for one in handled)


def _modules(entities: Iterable[Entity[Any]]) -> list[tuple[Mapping[str, Any], list[str]]]:
    """The names of each module with handlers of these entities, and the kinds of those."""
    found: dict[int, tuple[Mapping[str, Any], list[str]]] = {}
    for entity in entities:
        for handler in (*entity.decides.values(), *entity.evolves.values(), *entity.effects.values()):
            names = getattr(inspect.unwrap(handler), "__globals__", None)
            if names is not None:
                kinds = found.setdefault(id(names), (names, []))[1]
                if entity.kind not in kinds:
                    kinds.append(entity.kind)
    return list(found.values())


def _own(handler: Handler) -> list[type]:
    """The classes that a function itself names. One that it calls may choose between two versions."""
    function = inspect.unwrap(handler)
    named = values_in(function) if isinstance(function, FunctionType) else ()
    return [value for value in named if isinstance(value, type)]


def _named(handler: Handler) -> Iterator[type]:
    """The classes that a function names, or that a function of the same package names which it calls."""
    waiting: list[Any] = [handler]
    seen: set[int] = set()
    while waiting and len(seen) < _FUNCTIONS_MAX:
        function = inspect.unwrap(waiting.pop())
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        for value in values_in(function):
            if isinstance(value, type):
                yield value
            elif value is to:
                yield To
            elif callable(value) and package_of(value) == package_of(function):
                waiting.append(value)
