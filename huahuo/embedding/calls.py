"""What an application asks of its running service. All on the service's loop.

`Huahuo` offers these as coroutines, `Service` as blocking calls. Commands are in `sending`, and what comes
back is in `following`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from huahuo.actors.actor.errors import AskTimeout
from huahuo.actors.domain.api import EntityApi
from huahuo.actors.domain.decision import Refused
from huahuo.actors.domain.entity import Entity
from huahuo.actors.plugins.principal import USER_ID_RULE, UserId, user_id_of
from huahuo.app.wiring import App
from huahuo.at import At
from huahuo.transport.commands.published_events import PublishRefused
from huahuo.transport.commands.publishing import place_of_last
from huahuo.transport.protocol.english import translated


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
