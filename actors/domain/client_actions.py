"""What clients may send to an application's entities: their commands, queries and lists as actions."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from huahuo.actors.domain import en
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.decider import EntityDecider
from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.entity import Entity, EntityQuery
from huahuo.actors.domain.errors import HandlerExit, place_of
from huahuo.actors.domain.fold import Held
from huahuo.actors.domain.lists import ListQuery, Rows, before_of, page_body
from huahuo.actors.domain.messages import CommandMessage, InvalidMessage, query_params, struct_of
from huahuo.actors.domain.names import is_key
from huahuo.actors.domain.numbers import refuse_lost
from huahuo.actors.domain.row_facts import TABLE_PREFIX
from huahuo.actors.domain.sent import Done, Sent
from huahuo.actors.domain.structs import Command, traits
from huahuo.actors.entities.decider import Answer, Origin
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply, from_entity
from huahuo.actors.plugins.plugin import Host
from huahuo.actors.plugins.principal import Principal


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
