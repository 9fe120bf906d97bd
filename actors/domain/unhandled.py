"""Events, effects and commands that nothing handles, found before an application starts. Pure.

Events, effects and the commands of timers are values that a `decide` makes, so a missing handler would show
only when that happens. But the code of the `decide` names the class, or a function does that it calls.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any, Final

from huahuo.actors.domain.decision import To, to
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.errors import DefinitionError, place_of
from huahuo.actors.domain.handlers import Handler
from huahuo.actors.domain.reached import package_of, values_in
from huahuo.actors.domain.structs import Command, Effect, EffectFailed, Event, traits

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
