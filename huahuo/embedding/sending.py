"""Commands that an application sends: in the name of a user, or of the service itself."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from huahuo.actors.domain.api import EntityApi
from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.messages import InvalidMessage, key_beside
from huahuo.actors.domain.sent import Sent
from huahuo.actors.domain.structs import Command, traits
from huahuo.actors.entities.decider import Origin
from huahuo.actors.plugins.calls import Call
from huahuo.actors.plugins.principal import USER_ID_RULE, Principal, UserId, user_id_of
from huahuo.app.wiring import App
from huahuo.embedding import mistakes
from huahuo.eventstore.limits import NAME_CHARS_MAX
from huahuo.eventstore.model import CommandKey
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.english import of_service, translated
from huahuo.transport.protocol.fingerprints import fingerprint

_SERVICE: Final = "service"
_CLIENT: Final = "application"
"""The client in whose name an application's own command ids count."""


async def send(
    app: App,
    command: str | Command,
    *,
    as_user: UserId | Principal | None = None,
    command_id: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Send a command, by its action or as an object, and return the reply.

    Without `as_user`, the service itself sends it: nobody's right is asked. The same `command_id` again has
    no second effect.

    Raises:
        Refused: it was refused.
    """
    if command_id is not None and not incoming.is_id(command_id, NAME_CHARS_MAX):
        raise Refused(
            "invalid_field", "a field is not valid", f"command_id: a text of 1 to {NAME_CHARS_MAX} characters"
        )
    entities: EntityApi = app.api("entities")
    mistakes.refuse_the_user_as_a_field(entities.catalog, command, fields)
    if as_user is None or isinstance(command, Command):
        return await _as_service(app, entities, command, as_user, command_id, fields)
    spec = app.registry.commands.get(command)
    if spec is None:
        raise mistakes.unknown(entities.catalog, command, f"there is no action {command!r}")
    who = _principal(as_user)
    parsed = incoming.Parsed(command, command_id, fields)
    params: Any = incoming.convert(parsed, spec.params)
    if isinstance(params, incoming.Invalid):
        raise _invalid(params)
    key = None if command_id is None else CommandKey(who.name, _CLIENT, command_id)
    call: Call[Any] = Call(
        who, _CLIENT, command, params, command_id or _place(app), key, _fingerprint(fields) if key else b""
    )
    reply = await app.gate.execute(call, spec)
    own = command in entities.catalog.by_action
    return _shown(reply.body, reply.at, duplicate=reply.duplicate, own=own)


async def _as_service(
    app: App,
    entities: EntityApi,
    command: str | Command,
    as_user: UserId | Principal | None,
    command_id: str | None,
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    catalog = entities.catalog
    if isinstance(command, Command):
        entity = catalog.owners.get(type(command))
        if entity is None:
            name = type(command).__name__
            raise Refused(
                "unknown_action", f"no entity decides {name}: is its entity in Huahuo(entities=[…])?"
            )
        try:
            key, sent = key_beside(entity, command, fields), command
        except InvalidMessage as error:
            raise Refused("invalid_field", "a field is not allowed", str(error)) from None
        if key is not None and not app.log.head(f"{entity.kind}/{key}").seq:
            mistakes.refuse_a_number_of_ones_own(entity, command, key)
    else:
        found = catalog.by_action.get(command)
        if found is None:
            raise mistakes.unknown(catalog, command, f"no entity has the action {command!r}")
        entity, cls = found
        message = entities.messages[traits(cls).action]
        params: Any = incoming.convert(incoming.Parsed(command, command_id, dict(fields)), message.params)
        if isinstance(params, incoming.Invalid):
            raise _invalid(params)
        try:
            key, sent = message.read(params)
        except ValueError as error:
            raise Refused("invalid_field", "a field is not allowed", str(error)) from None
    who = None if as_user is None else _principal(as_user)
    name = _SERVICE if who is None else who.name
    record = None if command_id is None else CommandKey(name, _CLIENT, command_id)
    sent_as = command_id or _place(app)
    told = {**fields, "command": msgspec.to_builtins(sent, enc_hook=str)}
    origin = Origin(name, sent_as, record, _fingerprint(told) if record else b"")
    answer = await entities.execute(entity, key, Sent(sent, who, sent_as), origin)
    if answer.duplicate is not None:
        return _shown(answer.duplicate.reply, answer.at, duplicate=True)
    assert answer.reply is not None, "a first execution has a reply"
    return _shown(answer.reply.body, answer.at)


def _place(app: App) -> str:
    """The place in a trace of the span that the caller is in."""
    return "" if app.publisher.here is None else app.publisher.here()


def _invalid(what: incoming.Invalid) -> Refused:
    message = translated(what.message)
    if what.details:  # which names the field too
        message = message.partition(": ")[0]
    return Refused(str(what.code), message, what.details)


def _principal(user: UserId | Principal) -> Principal:
    if isinstance(user, Principal):
        return user
    user_id = user_id_of(user)
    if user_id is None:
        raise Refused("invalid_field", f"as_user: {USER_ID_RULE}")
    return Principal(user_id, str(user))


def _fingerprint(fields: Mapping[str, Any]) -> bytes:
    return fingerprint(fields, b"application")


def _shown(
    body: bytes,
    at: tuple[str, int] | None,
    *,
    duplicate: bool = False,
    own: bool = True,
) -> dict[str, Any]:
    """A reply as a client gets it. `own`: a refusal may be the application's, whose words are kept.

    Raises:
        Refused: it is an error.
    """
    said = msgspec.json.decode(body, type=dict[str, Any])
    if said.get("type") == "error":
        code, message = said["code"], said.get("message", "")
        in_words = translated(message) if own else of_service(code, message)
        raise Refused(code, in_words, said.get("details", ""))
    if at is not None:
        said["at"] = {"stream": at[0], "seq": at[1]}
    return said | ({"duplicate": True} if duplicate else {})
