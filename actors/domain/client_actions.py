"""What clients may send to an application's entities: their commands, queries and lists as actions.

A message holds the fields of a command or query and the entity's id. A list is a query that answers with
rows of a projection, in sorted pages:

    @app.query("get_orders")
    def get_orders(who: Principal) -> Rows:
        return Rows("orders", part=str(who.user_id))
"""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Generic, Literal, Protocol

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from huahuo.actors.domain.catalog import Catalog, creates
from huahuo.actors.domain.decider import EntityDecider
from huahuo.actors.domain.entity import Entity, EntityQuery, Handler, must_name, parameters_of, refuse_action
from huahuo.actors.domain.fold import Held
from huahuo.actors.domain.projection_rows import TABLE_PREFIX
from huahuo.actors.domain.storable import is_key, refuse_lost
from huahuo.actors.domain.structs import (
    Command,
    DefinitionError,
    HandlerExit,
    Refused,
    Value,
    place_of,
    traits,
)
from huahuo.actors.domain.writing import Done, Sent
from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins import en
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Principal, Refusal, Reply, error_reply, from_entity
from huahuo.actors.plugins.plugin import Host
from huahuo.eventstore.limits import BROWSER_INT_MAX

_NUMBER: Final = Annotated[int, Meta(ge=1, le=BROWSER_INT_MAX)]
_TEXT: Final = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.@+-]{1,64}$")]


class InvalidMessage(ValueError):  # noqa: N818  a refusal
    """A field is not allowed. The text begins with its name."""


class CommandMessage:
    """The struct that a message with `cls.action` is decoded into, and what it means."""

    def __init__(self, entity: Entity[Any], cls: type[Command]) -> None:
        self._cls = cls
        self._entity = entity
        self.key_field = f"{entity.kind}_id"
        self.makes_id = entity.key is int and creates(entity, cls)
        """Whether the id comes from the log, so that the message has none."""
        self._names = tuple(field.name for field in msgspec.structs.fields(cls))
        self.params = _with_key(cls, entity, optional=self.makes_id)

    def read(self, message: Any) -> tuple[int | str | None, Command]:
        """The entity's key (None: the log gives one) and the command.

        Raises:
            InvalidMessage: an id where the command makes one, or a value that the command itself refuses.
        """
        key = getattr(message, self.key_field)
        if self.makes_id:
            if key is not UNSET:
                raise InvalidMessage(f"{self.key_field}: {en.MAKES_A_NEW_ONE.format(self._entity.kind)}")
            key = None
        elif not is_key(key, self._entity.key):
            raise InvalidMessage(f"{self.key_field}: this value is not allowed")
        try:
            return key, self._cls(**{name: getattr(message, name) for name in self._names})
        except (TypeError, ValueError) as error:  # from a __post_init__ of the application
            raise InvalidMessage(str(error)) from error


def key_beside(entity: Entity[Any], command: Command, fields: Mapping[str, Any]) -> int | str | None:
    """The entity's key of a command that is an object, from the `fields` given with it.

    Raises:
        InvalidMessage: no entity can have it, it is needed and not there, or there is another field.
    """
    name = f"{entity.kind}_id"
    for other in sorted(fields.keys() - {name}):
        raise InvalidMessage(f"{other}: with an object, write its fields in it; besides, only {name}=")
    key = fields.get(name)
    if key is None and not (entity.key is int and creates(entity, type(command))):
        raise InvalidMessage(f"{name}: say which {entity.kind} it is for")
    if key is not None and not is_key(key, entity.key):
        raise InvalidMessage(f"{name}: no {entity.kind} can have the id {key!r}")
    return key


def query_params(entity: Entity[Any], fields: type[msgspec.Struct] | None) -> type[msgspec.Struct]:
    """The struct of a query's message: the entity's id, and the fields of its own struct."""
    return _with_key(fields, entity, optional=False)


def with_fields(
    fields: type[msgspec.Struct] | None, base: type[msgspec.Struct], name: str
) -> type[msgspec.Struct]:
    """A struct with the fields of both."""
    both = [*(() if fields is None else msgspec.structs.fields(fields)), *msgspec.structs.fields(base)]
    copied: list[Any] = [_copied(field) for field in both]
    return msgspec.defstruct(f"{name}Message", copied, frozen=True, kw_only=True)


def struct_of(message: Any, cls: type[msgspec.Struct]) -> msgspec.Struct:
    """The part of a message that belongs to `cls`."""
    return cls(**{field.name: getattr(message, field.name) for field in msgspec.structs.fields(cls)})


def _with_key(
    cls: type[msgspec.Struct] | None, entity: Entity[Any], *, optional: bool
) -> type[msgspec.Struct]:
    fields: list[Any] = [] if cls is None else [_copied(field) for field in msgspec.structs.fields(cls)]
    key = f"{entity.kind}_id"
    kind = _NUMBER if entity.key is int else _TEXT
    fields.append((key, Any, UNSET) if optional else (key, kind))
    name = f"{'' if cls is None else cls.__name__}Message"
    return msgspec.defstruct(name, fields, frozen=True, kw_only=True)


def _copied(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    given: dict[str, Any] = {"name": field.encode_name}
    if field.default is not msgspec.NODEFAULT:
        given["default"] = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        given["default_factory"] = field.default_factory
    return field.name, field.type, msgspec.field(**given)


LIMIT_MAX: Final = 1_000
PAGE_BYTES_MAX: Final = 1 << 20
"""A page ends before it would exceed this; one row alone may."""
_LIMIT: Final = 100
_TAKEN: Final = frozenset({"action", "id", "limit", "before"})


class Rows(Struct, Generic[Value], frozen=True):  # noqa: UP046  as `Put`
    """Which rows a list is about: those that decisions `Put` under this table and part.

    `Rows[Offer]` in an annotation says of which type the values are: `huahuo types` tells pages.

    A live list (`app.list`) may have several parts, up to 100, which are merged by key, and only the keys
    from `since` to `until`, both included. An action (`app.query`) has one part, newest key first.
    """

    table: str
    part: str | Sequence[str] = ""
    order: Literal["descending", "ascending"] = "descending"
    since: str | None = None
    until: str | None = None


class _Page(Struct, frozen=True):
    """The fields of every list. `before` is the `next` of the page before."""

    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = _LIMIT
    before: Annotated[str, Meta(max_length=2_000)] | UnsetType = UNSET


class ListQuery:
    """A list: see the module.

    Raises:
        DefinitionError: the action or the function cannot be a list's.
    """

    def __init__(self, action: str, answer: Handler) -> None:
        where = f"{place_of(answer)}: query({action!r})"
        refuse_action(answer, action, "query")
        self.action = action
        self.answer = answer
        self.fields = parameters_of(answer, ("who",))
        taken = _TAKEN.intersection(() if self.fields is None else self.fields.__struct_encode_fields__)
        if taken:
            raise DefinitionError(f"{where}: a field may not be called {min(taken)!r}: every list has it")
        self.params = with_fields(self.fields, _Page, "List")

    def rows_for(self, who: Any, message: Any) -> Any:
        """What the application answers: the rows that this user may list, or a refusal."""
        more = () if self.fields is None else (struct_of(message, self.fields),)
        return self.answer(who, *more)


def before_of(message: Any) -> bytes | None:
    """The key that a page ends before. Raises ValueError: it is none that a page gave."""
    return None if message.before is UNSET else b64decode(message.before.encode(), b"-_", validate=True)


def page_body(action: str, found: Sequence[tuple[bytes, bytes]], limit: int, position: int) -> bytes:
    """The reply: at most `limit` rows of `found`, which has one more than that where there are more."""
    size, count = 0, 0
    for _key, value in found[:limit]:
        size += len(value)
        if count and size > PAGE_BYTES_MAX:
            break
        count += 1
    shown = found[:count]
    following = urlsafe_b64encode(shown[-1][0]).decode() if count < len(found) else None
    data = [msgspec.Raw(value) for _key, value in shown]
    return msgspec.json.encode({"type": action, "data": data, "next": following, "position": position})


class Lists:
    """The lists of one application. `taken` says why an action cannot be one's."""

    def __init__(self, taken: Callable[[str], str | None]) -> None:
        self.by_action: dict[str, ListQuery] = {}
        self._taken = taken

    def query[F: Callable[..., Any]](self, action: str, /) -> Callable[[F], F]:
        """Declare one. Raises DefinitionError: the action is taken, or the function does not fit."""
        must_name(action, "app.query", '"get_orders"')

        def register(answer: F) -> F:
            other = self.by_action.get(action)
            why = self._taken(action) if other is None else f"{place_of(other.answer)} answers it already"
            if why is not None:
                raise DefinitionError(f"{place_of(answer)}: query({action!r}): {why}: choose another action")
            self.by_action[action] = ListQuery(action, answer)
            return answer

        return register


class Execute(Protocol):
    """Sends a command to an entity."""

    async def __call__(
        self, entity: Entity[Any], key: int | str | None, sent: Sent, origin: Origin
    ) -> Answer[Done]:
        """Without a key, the log gives the entity one."""
        ...


class ClientActions:
    """See the module. `messages`: how each action's command is read."""

    def __init__(
        self,
        catalog: Catalog,
        host: Host,
        deciders: Mapping[str, EntityDecider],
        messages: Mapping[str, CommandMessage],
        execute: Execute,
    ) -> None:
        self._catalog = catalog
        self._log = host.log
        self._directory = host.directory
        self._may_read = host.may_read
        self._deciders = deciders
        self._messages = messages
        self._execute = execute

    def actions(self) -> list[Action]:
        """The commands and queries that clients may send."""
        commands = [self._command(entity, cls) for entity, cls in self._catalog.by_action.values()]
        queries = [
            self._query(entity, query)
            for entity in self._catalog.by_kind.values()
            for query in entity.queries.values()
        ]
        return [*commands, *queries]

    def list_action(self, query: ListQuery) -> Action:
        """A list for the clients."""
        log = self._log

        async def handle(call: Call[Any]) -> Reply:
            try:
                before = before_of(call.params)
            except ValueError:
                return error_reply(Refusal("invalid_field", en.FIELD_NOT_ALLOWED, "before: no page's next"))
            try:
                rows = query.rows_for(call.principal, call.params)
            except Refused as refused:
                rows = refused
            if isinstance(rows, Refused):
                return error_reply(Refusal(rows.code, rows.message, rows.details))
            if not isinstance(rows, Rows):
                raise TypeError(f"{place_of(query.answer)}: it returns {type(rows).__name__}: return Rows(…)")
            if not isinstance(rows.part, str) or rows != Rows(rows.table, rows.part):
                why = "an action lists one part, newest first: use app.list for other lists"
                raise TypeError(f"{place_of(query.answer)}: {why}")
            position, limit = log.position, call.params.limit  # the position first: a lower bound
            found = await log.rows(TABLE_PREFIX + rows.table, rows.part, before=before, limit=limit + 1)
            return Reply(page_body(query.action, found, limit, position))

        place = f"{place_of(query.answer)}: query({query.action!r})"
        return Action(query.action, query.params, handle, query=True, place=place)

    def _command(self, entity: Entity[Any], cls: type[Command]) -> Action:
        message = self._messages[traits(cls).action]

        async def handle(call: Call[Any]) -> Reply:
            try:
                key, command = message.read(call.params)
            except InvalidMessage as invalid:
                return error_reply(Refusal("invalid_field", en.FIELD_NOT_ALLOWED, str(invalid)))
            readable = await self._authorized(entity, key, call.principal)
            sent = Sent(command, call.principal, call.command_id, readable=readable)
            answer = await self._execute(entity, key, sent, call.origin)
            return from_entity(b"" if answer.reply is None else answer.reply.body, answer, call)

        said, place = traits(cls), f"{place_of(cls)}: class {cls.__name__}(Command)"
        return Action(said.action, message.params, handle, frees=said.frees, place=place)

    def _query(self, entity: Entity[Any], query: EntityQuery) -> Action:
        fields = query.fields
        decider = self._deciders[entity.kind]

        async def handle(call: Call[Any]) -> Reply:
            key = getattr(call.params, f"{entity.kind}_id")
            authorized = await self._authorized(entity, key, call.principal)

            def answer(seq: int, held: Held) -> bytes | None:
                if not held.exists or not (authorized or decider.readable(held, call.principal)):
                    return None
                more = () if fields is None else (struct_of(call.params, fields),)
                try:
                    data = query.answer(held.state, call.principal, *more)
                except Exception:
                    raise
                except BaseException as error:
                    raise HandlerExit(query.answer, error) from error
                stream = f"{entity.kind}/{key}"
                body = msgspec.json.encode({"type": query.action, "data": data, "stream": stream, "seq": seq})
                refuse_lost(body, data, f"{place_of(query.answer)}: data")
                return body

            body: bytes | None = await self._directory.ask(entity.kind, key, Query(answer))
            if body is None:
                return error_reply(Refusal("not_found", en.NO_SUCH.format(entity.kind)))
            return Reply(body)

        place = f"{place_of(query.answer)}: {entity.kind}.query({query.action!r})"
        return Action(query.action, query_params(entity, fields), handle, query=True, place=place)

    async def _authorized(self, entity: Entity[Any], key: int | str | None, who: Principal) -> bool:
        """Whether the application's `authorize` lets `who` read an entity that has no `@readers`."""
        asked = self._may_read
        if asked is None or entity.may_read is not None or who.is_admin or not is_key(key, entity.key):
            return False
        return bool(await asked(f"{entity.kind}/{key}", who))
