"""What an application asks of its running service: events, states, commands, what clients processed.

All on the service's loop. `Huahuo` offers these as coroutines, `Service` as blocking calls. Commands are
sent in the name of a user, or of the service itself. A call of `send` that would be ignored in part is
refused with what to write instead.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.domain.catalog import Catalog, creates
from huahuo.actors.domain.client_actions import InvalidMessage, key_beside
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.plugin import EntityApi
from huahuo.actors.domain.storable import RESERVED_KINDS, is_own_stream, is_whole, key_of
from huahuo.actors.domain.structs import Command, Refused, traits
from huahuo.actors.domain.writing import Sent
from huahuo.actors.entities.decider import Origin
from huahuo.actors.plugins.calls import USER_ID_RULE, Call, Principal, UserId, user_id_of
from huahuo.app.wiring import App
from huahuo.at import At
from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.limits import NAME_CHARS_MAX
from huahuo.eventstore.model import CommandKey, StoredEvent
from huahuo.transport.commands.published_events import PublishRefused
from huahuo.transport.commands.publishing import place_of_last
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.incoming import fingerprint
from huahuo.transport.protocol.problem import of_service, translated


async def publish(app: App, stream: str, type_: str, fields: Mapping[str, Any] | None = None) -> At:
    """Append one event. Raises as `publish_many`."""
    return await publish_many(app, ((stream, type_, fields or {}),))


async def publish_many(app: App, events: Iterable[tuple[str, str, Mapping[str, Any]]]) -> At:
    """Append (stream, type, fields) of each event in one commit.

    Raises:
        Refused: a stream, a type or a field is not allowed. Nothing was written.
    """
    try:
        submitted = app.publisher.submit_many(events)
    except PublishRefused as error:
        raise refused(error) from None
    del events  # thousands may wait, and the collector looks through all that they hold
    return At(*place_of_last(await submitted))


async def state(app: App, entity: Entity[Any] | str, key: int | str) -> tuple[Any, int]:
    """The state of an entity, and the seq of the last event in it.

    Raises:
        Refused: this service has no such kind, or no entity can have this id.
    """
    entities: EntityApi = app.api("entities")
    kind = entity if isinstance(entity, str) else entity.kind
    if kind not in entities.catalog.by_kind:
        raise Refused("not_found", f"this service has no kind {kind!r}")
    try:
        return await entities.state(kind, key)
    except AskTimeout as error:
        raise Refused("busy", str(error)) from error


def rights_changed(app: App, stream: str | None, user: UserId | None) -> None:
    """Ask again who may read. See `Huahuo.rights_changed`."""
    user_id = None if user is None else user_id_of(user)
    if user is not None and user_id is None:
        raise Refused("invalid_field", f"user: {USER_ID_RULE}")
    app.server.rejudging.now(stream, user_id)


def refused(error: PublishRefused) -> Refused:
    """A refusal of a publication as programs catch it."""
    refusal = error.refusal
    return Refused(str(refusal.code), translated(refusal.message), refusal.details)


_MEANT_AS_USER: Final = frozenset({"user", "user_id"})
"""Fields by which a caller means `as_user`."""


def refuse_the_user_as_a_field(catalog: Catalog, command: object, fields: Mapping[str, Any]) -> None:
    """Refuse a field that stands for `as_user`: it would be ignored, and the service itself would send."""
    found = catalog.by_action.get(command) if isinstance(command, str) else None
    if found is None:
        return
    for name in sorted(_MEANT_AS_USER & fields.keys() - {*found[1].__struct_encode_fields__}):
        raise _invalid_call(f"{name}: {command} has no such field: write as_user= for the user who sends it")


def refuse_a_number_of_ones_own(entity: Entity[Any], command: Command, key: int | str) -> None:
    """Refuse an id for a new entity where the log gives them: it would give the same to another one."""
    if entity.key is int and creates(entity, type(command)):
        kind, name = entity.kind, type(command).__name__
        raise _invalid_call(
            f"{kind}_id: there is no {kind} {key}: without {kind}_id=, {name}(…) makes a new one"
        )


def unknown(catalog: Catalog, command: object, why: str) -> Refused:
    """The refusal of what is neither a command nor an action: what may have been meant, or else `why`."""
    if isinstance(command, type):
        why = f"{command.__name__} is a class: write {command.__name__}(…)"
    for cls in catalog.owners:
        if issubclass(cls, Command) and traits(cls).name == command:
            why = f"{command!r} is the name of {cls.__name__}, which has no action: send {cls.__name__}(…)"
    return Refused("unknown_action", why)


def _invalid_call(details: str) -> Refused:
    return Refused("invalid_field", "a field is not valid", details)


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
    refuse_the_user_as_a_field(entities.catalog, command, fields)
    if as_user is None or isinstance(command, Command):
        return await _as_service(app, entities, command, as_user, command_id, fields)
    spec = app.registry.commands.get(command)
    if spec is None:
        raise unknown(entities.catalog, command, f"there is no action {command!r}")
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
            refuse_a_number_of_ones_own(entity, command, key)
    else:
        found = catalog.by_action.get(command)
        if found is None:
            raise unknown(catalog, command, f"no entity has the action {command!r}")
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


_LONE_STREAMS: Final = frozenset({"system", "log", "auth", "audit"})
_PAGE_EVENTS: Final = 256
_PAGE_BYTES: Final = 256 << 10


def _may_exist(app: App, stream: str) -> bool:
    """Whether a stream can have this name: a lone one, or `<kind>/<key>` with a key of the kind."""
    kind, slash, rest = stream.partition("/")
    if not slash:
        return stream in _LONE_STREAMS
    entities: EntityApi = app.api("entities")
    entity = entities.catalog.by_kind.get(kind)
    if entity is None and kind in RESERVED_KINDS - {"user", "group"}:
        return bool(rest)
    if entity is None:
        return is_own_stream(stream, ())
    return key_of(rest, entity.key) is not None


async def follow(app: App, stream: str, after: int = 0) -> AsyncGenerator[dict[str, Any]]:
    """Every event of `stream` after `after`, as clients get it, with `stream` and `seq`.

    It ends when the service stops.

    Raises:
        Refused: no stream can have this name, or `after` is no seq, so the caller would wait for ever.
    """
    if not _may_exist(app, stream):
        raise Refused("invalid_field", f"stream: no stream can have the name {stream!r}")
    if not is_whole(after, 0):
        raise Refused("invalid_field", f"after: {after!r} is no seq: write 0 for all events of the stream")
    feed, changed, stopped = app.feed, asyncio.Event(), asyncio.Event()

    def committed(by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        if by_stream is None or stream in by_stream:
            changed.set()

    def stops() -> None:
        stopped.set()
        changed.set()

    untap, forget = feed.tap(committed), app.on_stop(stops)
    try:
        while True:
            changed.clear()
            while after < feed.head(stream).seq:
                run = feed.peek(stream, after, events_max=_PAGE_EVENTS, bytes_max=_PAGE_BYTES)
                if run is None:
                    run = await feed.fetch(stream, after, events_max=_PAGE_EVENTS, bytes_max=_PAGE_BYTES)
                for event in run.events:
                    yield {**msgspec.json.decode(event.body), "stream": event.stream, "seq": event.seq}
                after = run.last
            if stopped.is_set():
                return
            await changed.wait()
    finally:
        untap()
        forget()


async def next_event(app: App, stream: str, after: int, timeout_s: float) -> dict[str, Any] | None:
    """The first event of `stream` after `after`, None if there is none within `timeout_s`."""
    with contextlib.suppress(TimeoutError):
        async with Deadline(app.clock, timeout_s), contextlib.aclosing(follow(app, stream, after)) as events:
            return await anext(events, None)
    return None


async def seen(app: App, stream: str, seq: int, *, client: str, timeout_s: float = 30.0) -> bool:
    """Whether the client installation has processed `stream` up to `seq`, within `timeout_s`.

    Also False if the service stops first. Every client gets `user/<id>` and `system`. While its application
    does not read them, what it received there counts as processed.

    Raises:
        Refused: what is known of that client is damaged (`corrupt`).
    """
    acked = app.hub.acked(client, stream, seq)
    if acked.done():  # at a deadline of 0 s the wait below would end before it saw that
        return True
    forget = app.on_stop(acked.cancel)
    try:
        # Outside of the deadline: at 0 s it is the answer.
        acks = await app.log.acks(client=client, stream=stream)
        if any(ack.seq >= seq for ack in acks):
            return True
        async with Deadline(app.clock, timeout_s):
            await asyncio.wait({acked})
            return not acked.cancelled()
    except TimeoutError:
        return acked.done() and not acked.cancelled()
    except Corrupt as error:
        raise Refused("corrupt", str(error)) from error
    finally:
        forget()
        acked.cancel()
