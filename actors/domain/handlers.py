"""What an entity's functions are annotated with, and the tables in which they are found by it. Pure."""

import inspect
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, Final, NoReturn, Union, get_args, get_origin

import msgspec

from huahuo.actors.domain.errors import DefinitionError, place_of, place_of_caller
from huahuo.actors.domain.names import NAME, NO_TYPES
from huahuo.actors.plugins.actions import CONNECTION_ACTIONS, SERVICE_ACTIONS

type Handler = Callable[..., Any]

_TAKES: Final = {
    "evolve": ("state", "event"),
    "decide": ("state", "command", "ctx"),
    "effect": ("job", "run"),
}
"""What a handler of each word is called with."""
_SUBJECT: Final = 1
"""The place of the parameter whose annotation says what a handler handles: after the state."""


def must_be_plain(handler: Handler, what: str) -> None:
    """Refuse a coroutine or a generator where the answer is used at once. Raises DefinitionError."""
    if inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler):
        why = "its answer is used at once, and nothing waits for it: write def, not async def"
    elif inspect.isgeneratorfunction(handler):
        why = "it yields its answer: return it instead, several events as a list"
    else:
        return
    raise DefinitionError(f"{place_of(handler)}: {getattr(handler, '__name__', '?')}, {what}: {why}")


def must_take(handler: Any, given: tuple[str, ...], what: str) -> None:
    """Raise DefinitionError if the function does not take this number of arguments."""
    name = getattr(handler, "__name__", "?")
    if not callable(handler):
        write = "put the class of yours there, or nothing at all, and the function below it"
        at = place_of_caller("huahuo.actors.domain")
        raise DefinitionError(f"{at}: {what}: {handler!r} is neither a class nor a function: {write}")
    try:
        inspect.signature(handler).bind(*given)
    except TypeError:
        takes = ", ".join(given)
        write = f"lambda {takes}: …" if name == "<lambda>" else f"def {name}({takes})"
        count = "one argument" if len(given) == 1 else f"{len(given)} arguments"
        why = f"it is called with {count}: write {write}"
        raise DefinitionError(f"{place_of(handler)}: {name}, {what}: {why}") from None
    except ValueError:
        return  # one that is not written in Python


def takes(handler: Handler, given: tuple[str, ...]) -> bool:
    """Whether the function has this number of parameters without a default."""
    found = inspect.signature(handler).parameters.values() if inspect.isroutine(handler) else ()
    return len([one for one in found if one.default is one.empty]) == len(given)


def must_name(given: object, decorator: str, example: str) -> None:
    """Refuse a decorator that was written without the text that it needs.

    Raises:
        DefinitionError: it got the function itself (`@app.follower` without `(…)`), or something else.
    """
    if isinstance(given, str):
        return
    if inspect.isfunction(given):
        where, why = place_of(given), f"{given.__name__}: {decorator} needs a name"
    else:
        where, why = place_of_caller("huahuo."), f"{decorator}: {given!r} is no text"
    raise DefinitionError(f"{where}: {why}: write @{decorator}({example}) above the function")


def refuse_action(answer: Handler, action: str, what: str) -> None:
    """Refuse the action of a query that is no name, or whose reply would pass for another message.

    Raises:
        DefinitionError: it is.
    """
    where = f"{place_of(answer)}: {what}({action!r})"
    if not NAME.fullmatch(action):
        raise DefinitionError(f"{where}: an action has 1 to 64 letters, digits or _ . : / -")
    if action in NO_TYPES or action in CONNECTION_ACTIONS | SERVICE_ACTIONS:
        raise DefinitionError(f"{where}: the action belongs to the service: write another, as get_{action}")


class Table[K, V](dict[K, V]):
    """What a decorator declared, to be read. As a decorator itself, it is a slip of the pen for that one."""

    def __init__(self, decorator: str) -> None:
        super().__init__()
        self._decorator = decorator

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Raise DefinitionError: it was written above a function."""
        at = place_of_caller("huahuo.actors.domain")
        raise DefinitionError(f"{at}: that is no decorator: write @{self._decorator} above the function")


class Handlers:
    """The handlers of one word (`evolve`, `decide`, `effect`), by the class that each handles."""

    def __init__(self, word: str, base: type, kind: str, state: object = None) -> None:
        """`state`: the class that the first argument of each handler has, if that is the entity's state."""
        self._word = word
        self._base = base
        self._kind = kind
        self._state = state
        self.by_class: Table[type, Handler] = Table(f"{kind}.{word}")

    def add(self, handler: Handler, classes: Iterator[type] | list[type]) -> None:
        """Register `handler` for each of `classes`.

        Raises:
            DefinitionError: one of them is not of our base, or has a handler already.
        """
        must_take(handler, _TAKES[self._word], self.what)
        self._must_take_the_state(handler)
        for cls in classes:
            name = getattr(cls, "__name__", repr(cls))
            if not _is_one(cls, self._base):
                why = f"{name} is not a class of yours that derives from {self._base.__name__}"
                raise DefinitionError(self._at(handler, f"{why}: annotate it with one that does"))
            other = self.by_class.get(cls)
            if other is not None:
                why = f"{name} is handled by {place_of(other)} already: remove one of the two"
                raise DefinitionError(self._at(handler, why))
            self.by_class[cls] = handler

    def register(self, of: Any) -> Any:
        """The decorator: `of` is the handler itself, or the class that it handles.

        Raises:
            DefinitionError: as `add` and `annotated`.
        """
        if of is None:
            why = "there is nothing between the brackets: leave them out, or put the class there"
            raise DefinitionError(f"{place_of_caller('huahuo.')}: {self.what}: {why}")
        if isinstance(of, type):

            def register(handler: Handler) -> Handler:
                must_be_plain(handler, self.what)
                self.add(handler, [of])
                return handler

            return register
        must_be_plain(of, self.what)
        self.add(of, self.annotated(of))
        return of

    def annotated(self, handler: Handler, place: int = _SUBJECT) -> list[type]:
        """The classes that the parameter at `place` names.

        Raises:
            DefinitionError: it has no annotation, or one that cannot be resolved.
        """
        must_take(handler, _TAKES[self._word], self.what)
        parameters = list(inspect.signature(handler).parameters.values())
        write = f"write @{self._kind}.{self._word}(TheClass) above the function"
        parameter = parameters[min(place, len(parameters) - 1)]  # the last one may be *arguments
        hint = parameter.annotation
        if hint is inspect.Parameter.empty:
            why = f"{parameter.name!r} has no annotation: annotate it with your class, or {write}"
            raise DefinitionError(self._at(handler, why))
        if isinstance(hint, str):
            try:
                hint = eval(hint, getattr(handler, "__globals__", {}))  # noqa: S307  the application's own source
            except Exception:  # noqa: BLE001  whatever the expression does
                why = f"the annotation {hint!r} of {parameter.name!r} cannot be resolved here: {write}"
                raise DefinitionError(self._at(handler, why)) from None
        hint = getattr(hint, "__value__", hint)  # a `type` alias
        return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]

    def _must_take_the_state(self, handler: Handler) -> None:
        """Refuse the struct of another entity as annotation. Any other annotation, or none, is allowed."""
        state, parameters = self._state, [*inspect.signature(handler).parameters.values()]
        if not isinstance(state, type) or not parameters:
            return
        hint = parameters[0].annotation
        if isinstance(hint, str):
            hint = getattr(handler, "__globals__", {}).get(hint)
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and not issubclass(state, hint):
            why = f"the state of {self._kind} is {state.__name__}, not {hint.__name__}"
            write = f"{parameters[0].name}: {state.__name__}"
            raise DefinitionError(self._at(handler, f"{why}: write {write} as its first argument"))

    @property
    def what(self) -> str:
        """What a handler is called in messages."""
        return f"a handler of {self._kind}.{self._word}"

    def _at(self, handler: Handler, why: str) -> str:
        name = getattr(handler, "__name__", "?")
        return f"{place_of(handler)}: {name}, {self.what}: {why}"


def _is_one(cls: object, base: type) -> bool:
    return isinstance(cls, type) and issubclass(cls, base) and cls is not base


def parameters_of(answer: Handler, given: tuple[str, ...] = ("state", "who")) -> type[Any] | None:
    """The struct that the argument of a query behind `given` is annotated with, None without one.

    Raises:
        DefinitionError: it is a coroutine, takes another number of arguments, or the annotation is no Struct.
    """
    must_be_plain(answer, "a query")
    parameters = list(inspect.signature(answer).parameters.values())
    name = getattr(answer, "__name__", "?")
    if len(parameters) == len(given):
        return None
    hint = parameters[-1].annotation if len(parameters) == len(given) + 1 else None
    if isinstance(hint, str):
        hint = getattr(answer, "__globals__", {}).get(hint)
    if not (isinstance(hint, type) and issubclass(hint, msgspec.Struct)):
        plain = ", ".join(given)
        why = f"write ({plain}), or ({plain}, fields: YourStruct) with the fields of its message"
        raise DefinitionError(f"{place_of(answer)}: {name}, a query: {why}")
    return hint
