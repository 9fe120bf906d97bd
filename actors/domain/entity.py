"""`Entity`: the declaration of one kind of entity. It holds functions and runs none of them.

    order = Entity("order", Order)

    @order.evolve
    def placed(state: Order, event: Placed) -> Order: ...

    @order.decide
    def place(state: Order, command: Place, ctx: Context) -> Outcome: ...

A handler is found by the annotation of its second argument. Where that cannot be resolved, as for a class
inside a function, the class is given: `@order.decide(Place)`.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, get_origin, overload

from huahuo.actors.domain.decision import Context, Outcome
from huahuo.actors.domain.effect_rules import EffectRules, PerOf
from huahuo.actors.domain.errors import DefinitionError, place_of, place_of_caller
from huahuo.actors.domain.handlers import (
    Handler,
    Handlers,
    Table,
    must_be_plain,
    must_name,
    must_take,
    parameters_of,
    refuse_action,
    takes,
)
from huahuo.actors.domain.names import KIND, NAME, RESERVED_KINDS, is_table
from huahuo.actors.domain.numbers import is_whole
from huahuo.actors.domain.structs import Command, Effect, Event

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
