"""`Entity`: the declaration of one kind of entity. It holds functions and runs none of them.

    order = Entity("order", Order)

    @order.evolve
    def placed(state: Order, event: Placed) -> Order: ...

    @order.decide
    def place(state: Order, command: Place, ctx: Context) -> Outcome: ...

A handler is found by the annotation of its second argument (`Handlers`). Where that cannot be resolved, as
for a class inside a function, the class is given: `@order.decide(Place)`. `EffectRules` says how the
effects of one class are run. Pure.
"""

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    NoReturn,
    Protocol,
    Union,
    get_args,
    get_origin,
    overload,
)

import msgspec

from huahuo.actors.domain.storable import KIND, NAME, NO_TYPES, RESERVED_KINDS, is_number, is_table, is_whole
from huahuo.actors.domain.structs import (
    Command,
    Context,
    DefinitionError,
    Effect,
    Event,
    Outcome,
    place_of,
    place_of_caller,
)
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


type PerOf = Callable[[Any], object]
"""Of which host, account or the like an effect is: see `Entity.effect`."""


class EffectRules:
    """See `Entity.effect`."""

    def __init__(self, retries: int, backoff_s: float, at_once: int | None, per: PerOf | None) -> None:
        self.retries = retries
        self.backoff_s = backoff_s
        self.at_once = at_once
        self.per = per

    def check(self, where: str) -> None:
        """Raises DefinitionError: one of them is impossible. `where`: the handler, for the message."""
        if not (
            is_whole(self.retries, 0)
            and (self.at_once is None or is_whole(self.at_once, 1))
            and is_number(self.backoff_s)
            and 0 <= self.backoff_s < math.inf
        ):
            why = "retries= and backoff_s= are numbers from 0 on, at_once= from 1 on"
            raise DefinitionError(f"{where}: {why}")
        if self.per is None:
            return
        if not callable(self.per):
            raise DefinitionError(f"{where}: per= is a function of the effect: write lambda job: job.host")
        must_take(self.per, ("job",), "per=")
        if self.at_once is None:
            why = "per= says of which effects at_once= run at a time: write at_once=1, or leave per= out"
            raise DefinitionError(f"{where}: {why}")


_HERE: Final = "huahuo.actors.domain"
_ROWS_TAKE: Final = 2

type Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Converts the fields of an event of one version to those of the next."""


class _Keeps(Protocol):
    """A decorator that returns the function as it is."""

    def __call__[F: Callable[..., Awaitable[None]]](self, handler: F, /) -> F: ...


class EntityQuery:
    """A question about one entity: see `Entity.query`."""

    def __init__(self, action: str, answer: Handler) -> None:
        self.action = action
        self.answer = answer
        self.fields = parameters_of(answer)


class Entity[S]:
    """One kind of entity with its state, its streams `<kind>/<key>` and its handlers.

    `key`: `int`, ids from the log, or `str`, natural keys. `version`: raise it when a handler means
    something else than before. `events` and `commands`, where given, say what must have a handler.
    `retired`: stored types of events that no class has any more, which change nothing.
    `keyframe_every`: events between two stored states (default: the setting of the service).

    Raises:
        DefinitionError: the kind is reserved or is no name, or `key` is neither `int` nor `str`.
    """

    reserved: ClassVar[frozenset[str]] = RESERVED_KINDS

    def __init__(
        self,
        kind: str,
        state: type[S],
        *,
        key: type[int] | type[str] = int,
        version: int = 1,
        events: Sequence[type[Event]] | None = None,
        commands: Sequence[type[Command]] | None = None,
        retired: Sequence[str] = (),
        keyframe_every: int | None = None,
    ) -> None:
        self.place = place_of_caller(_HERE)
        if not isinstance(kind, str):
            raise self._wrong(kind, "the kind is a text, such as 'order'")
        if kind in self.reserved:
            raise self._wrong(kind, f"{kind!r} belongs to the service: choose another kind")
        if not KIND.fullmatch(kind):
            raise self._wrong(
                kind, "a kind has 1 to 32 small letters, digits and _, and begins with a letter"
            )
        given: object = state
        if not isinstance(given, type):
            cls, what = type(given), "one of its objects"
            if generic := get_origin(given):
                cls, what = generic, "one with type arguments"
            write = f"write Entity({kind!r}, {cls.__name__})"
            raise self._wrong(kind, f"the state is a class, not {what}: {write}")
        if key not in (int, str):
            raise self._wrong(kind, "write key=int (ids from the log) or key=str (natural keys)")
        if not is_whole(version, 1) or not (keyframe_every is None or is_whole(keyframe_every, 1)):
            raise self._wrong(kind, "version and keyframe_every are whole numbers from 1 on")
        self.kind = kind
        self.state = state
        self.key = key
        self.version = version
        self.events = self._listed("events", events, Event)
        self.commands = self._listed("commands", commands, Command)
        if isinstance(retired, str) or not all(isinstance(name, str) for name in retired):
            raise self._wrong(kind, f'retired= is a list of stored types: write retired=["{kind}_…"]')
        self.retired = frozenset(retired)
        self.keyframe_every = keyframe_every
        self.may_read: Callable[..., bool] | None = None
        self.readers_take_id = False
        self.shown: Callable[..., Any] | None = None
        """See `view`."""
        self.view_takes_id = False
        self.queries: dict[str, EntityQuery] = Table(f"{kind}.query")
        self.tables: dict[str, Handler] = {}
        """By table, what says which rows an entity has: see `rows`."""
        self.upcasts: dict[tuple[str, int], Upcast] = Table(f"{kind}.upcast")
        self.rules: dict[type[Effect], EffectRules] = {}
        self.code_print = ""
        """What changes with the code that makes its states, once `EntityFold` has looked at it."""
        self._evolves = Handlers("evolve", Event, kind, state)
        self._decides = Handlers("decide", Command, kind, state)
        self._effects = Handlers("effect", Effect, kind)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, with the decorator that may have been meant."""
            near = get_close_matches(
                name, ("evolve", "decide", "effect", "readers", "query", "rows", "upcast"), 1
            )
            hint = f": write @{self.__dict__.get('kind', 'entity')}.{near[0]}" if near else ""
            raise AttributeError(f"an Entity has no {name!r}{hint}")

    def __repr__(self) -> str:
        return f"Entity({self.kind!r}, {self.state.__name__})"

    @property
    def evolves(self) -> Mapping[type, Handler]:
        """The `evolve` handlers by event class."""
        return self._evolves.by_class

    @property
    def decides(self) -> Mapping[type, Handler]:
        """The `decide` handlers by command class."""
        return self._decides.by_class

    @property
    def effects(self) -> Mapping[type, Handler]:
        """The `effect` handlers by effect class."""
        return self._effects.by_class

    @overload
    def evolve[E: Event](self, handler: Callable[[S, E], S], /) -> Callable[[S, E], S]: ...
    @overload
    def evolve[E: Event](self, of: type[E], /) -> Callable[[Callable[[S, E], S]], Callable[[S, E], S]]: ...
    def evolve(self, of: Any = None, /) -> Any:
        """What the state is after an event. Pure: the same events must always give the same state."""
        return self._evolves.register(of)

    @overload
    def decide[C: Command](
        self, of: type[C], /
    ) -> Callable[[Callable[[S, C, Context], Outcome]], Callable[[S, C, Context], Outcome]]: ...
    @overload
    def decide[C: Command](
        self, handler: Callable[[S, C, Context], Outcome], /
    ) -> Callable[[S, C, Context], Outcome]: ...
    def decide(self, of: Any = None, /) -> Any:
        """What a command makes happen. Pure: it must not change the state, and time comes from `ctx`."""
        return self._decides.register(of)

    @overload
    def effect[F: Callable[..., Awaitable[None]]](self, handler: F, /) -> F: ...
    @overload
    def effect(
        self,
        of: type[Effect] | None = None,
        /,
        *,
        retries: int = 5,
        backoff_s: float = 1.0,
        at_once: int | None = None,
        per: PerOf | None = None,
    ) -> _Keeps: ...
    def effect(
        self,
        of: Any = None,
        /,
        *,
        retries: int = 5,
        backoff_s: float = 1.0,
        at_once: int | None = None,
        per: PerOf | None = None,
    ) -> Any:
        """Work after the commit. It is done at least once, and ends exactly once.

        `retries`: runs after the first that failed, `backoff_s` apart and twice as far each time. `at_once`:
        how many run at a time, of those with the same `per(effect)` where that is given.
        """
        rules = EffectRules(retries, backoff_s, at_once, per)

        def register(handler: Handler, classes: list[type]) -> Handler:
            must_take(handler, ("job", "run"), f"a handler of {self.kind}.effect")
            where = f"{place_of(handler)}: {handler.__name__}, a handler of {self.kind}.effect"
            if not inspect.iscoroutinefunction(handler):
                yields = inspect.isasyncgenfunction(handler)
                what = "it yields: use await run.emit(…)" if yields else "it is no coroutine: write async def"
                raise DefinitionError(f"{where}: {what}")
            rules.check(where)
            self._effects.add(handler, classes)
            self.rules.update(dict.fromkeys(classes, rules))
            return handler

        if of is not None and not isinstance(of, type):
            must_take(of, ("job", "run"), f"{self.kind}.effect")
            return register(of, self._effects.annotated(of, 0))
        return lambda handler: register(handler, self._effects.annotated(handler, 0) if of is None else [of])

    def readers[F: Callable[..., bool]](self, judge: F, /) -> F:
        """Who may read the entity: `judge(state, who)`, or with `id` behind. Administrators may always."""
        must_be_plain(judge, f"the readers of {self.kind}")
        self.readers_take_id = takes(judge, ("state", "who", "id"))
        if not self.readers_take_id:
            must_take(judge, ("state", "who"), f"the readers of {self.kind}")
        if self.may_read is not None:
            why = f"{place_of(self.may_read)} says already who may read: remove one of the two"
            raise DefinitionError(f"{place_of(judge)}: {judge.__name__}, the readers of {self.kind}: {why}")
        self.may_read = judge
        return judge

    def view[F: Callable[..., Any]](self, shown: F, /) -> F:
        """What clients that follow the entity's state see of it: `view(state)`, or with `id` behind. Pure.

        It returns what JSON holds as an object. Without it, they see the state.
        """
        must_be_plain(shown, f"the view of {self.kind}")
        self.view_takes_id = takes(shown, ("state", "id"))
        if not self.view_takes_id:
            must_take(shown, ("state",), f"the view of {self.kind}")
        if self.shown is not None:
            why = f"{place_of(self.shown)} says already what clients see: remove one of the two"
            raise DefinitionError(f"{place_of(shown)}: {shown.__name__}, the view of {self.kind}: {why}")
        self.shown = shown
        return shown

    def query[F: Callable[..., Any]](self, action: str, /) -> Callable[[F], F]:
        """A question that the entity's readers may ask: `answer(state, who)` gives what JSON can hold."""
        must_name(action, f"{self.kind}.query", f'"get_{self.kind}"')

        def register(answer: F) -> F:
            refuse_action(answer, action, f"{self.kind}.query")
            if action in self.queries:
                why = f"{place_of(self.queries[action].answer)} answers {action!r} already"
                raise DefinitionError(f"{place_of(answer)}: {self.kind}.query: {why}: remove one of the two")
            self.queries[action] = EntityQuery(action, answer)
            return answer

        return register

    def rows[F: Callable[..., Any]](self, table: str, /) -> Callable[[F], F]:
        """The rows of a projection that an entity has: `rows(state, id)` returns a list of `Put(table, …)`.

        They change in the commit of each decision, and can be made anew from the log. Pure.
        """
        must_name(table, f"{self.kind}.rows", f'"{self.kind}s"')

        def register(rows: F) -> F:
            must_be_plain(rows, f"the rows of {table!r}")
            where = f"{place_of(rows)}: {self.kind}.rows({table!r})"
            if not is_table(table):
                raise DefinitionError(
                    f"{where}: a table has 1 to 64 letters, digits or _ . -, and a free name"
                )
            if table in self.tables:
                why = f"{place_of(self.tables[table])} says already which rows there are"
                raise DefinitionError(f"{where}: {why}: remove one of the two")
            if len(inspect.signature(rows).parameters) != _ROWS_TAKE:
                raise DefinitionError(f"{where}: write def {rows.__name__}(state, id)")
            self.tables[table] = rows
            return rows

        return register

    def upcast(self, type_name: str, /, *, from_version: int = 0) -> Callable[[Upcast], Upcast]:
        """How the fields of an old event become those of the next version. Pure."""
        must_name(type_name, f"{self.kind}.upcast", f'"{self.kind}_…", from_version=1')

        def register(step: Upcast) -> Upcast:
            must_be_plain(step, f"an upcast of {self.kind}")
            must_take(step, ("fields",), f"an upcast of {self.kind}")
            where = f"{place_of(step)}: {self.kind}.upcast({type_name!r}, from_version={from_version})"
            if not NAME.fullmatch(type_name) or not is_whole(from_version, 1):
                write = f"write @{self.kind}.upcast({type_name!r}, from_version=1)"
                raise DefinitionError(f"{where}: name a stored type and a version from 1: {write}")
            if (type_name, from_version) in self.upcasts:
                raise DefinitionError(f"{where}: there is one already: remove one of the two")
            self.upcasts[type_name, from_version] = step
            return step

        return register

    def _listed(self, word: str, given: Any, base: type) -> tuple[Any, ...] | None:
        """The classes of `events=` or `commands=`. Raises DefinitionError: it is no list of such classes."""
        if given is None:
            return None
        is_list = isinstance(given, Iterable) and not isinstance(given, type)
        classes = tuple(given) if is_list else (given,)
        for cls in classes:
            if not (is_list and isinstance(cls, type) and issubclass(cls, base)):
                what = f"{getattr(cls, '__name__', cls)!s:.60}: {word}= is a list of classes that derive from"
                raise self._wrong(self.kind, f"{what} {base.__name__}: write {word}=[TheClass]")
        return classes

    def _wrong(self, kind: str, why: str) -> DefinitionError:
        return DefinitionError(f"{self.place}: Entity({kind!r}): {why}")
