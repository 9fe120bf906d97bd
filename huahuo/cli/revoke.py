"""`huahuo revoke`: through the running service as an admin, or under the writer's lock if none runs."""

import asyncio

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.principal import UserId
from huahuo.app import keys, service_file
from huahuo.app.config import Settings
from huahuo.app.tokens import token_source
from huahuo.build import BUILD
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.errors import EventStoreError, InUse
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientError
from huahuo.transport.commands.published_events import PublishRefused
from huahuo.transport.commands.publishing import Publisher

_TIMEOUT_S = 10.0


async def revoke(settings: Settings, *, user_id: UserId | None, jti: str | None) -> None:
    """Make the revocation durable. A running service closes the sockets within a second.

    Raises:
        HuahuoError: there is no such directory, the log cannot be opened, or the service refused.
    """
    secrets, ambient = keys.read(settings), SystemAmbient()
    try:
        log = await SqliteLog.open(settings.data, ambient=ambient, master_key=secrets.master_key, build=BUILD)
    except InUse:
        await _through_service(settings, user_id=user_id, jti=jti)
        return
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
    try:
        await Publisher(log, ambient, Registry()).revoke(user_id=user_id, jti=jti, principal="huahuo revoke")
    except (PublishRefused, EventStoreError) as error:
        raise HuahuoError(str(error)) from error
    finally:
        await log.close()


async def _through_service(settings: Settings, *, user_id: UserId | None, jti: str | None) -> None:
    service = service_file.read(settings.data)
    if service is None:
        raise HuahuoError(f"{settings.data} is in use, but {service_file.FILE} does not say by which service")
    fields = {"user_id": user_id} if user_id is not None else {"jti": jti}
    source = token_source(None, settings, SystemAmbient())
    try:
        async with Client(service.url, get_token=source) as client:
            async with asyncio.timeout(_TIMEOUT_S):
                await client.send("revoke", **fields)
    except (ClientError, TimeoutError) as error:
        raise HuahuoError(f"the service at {service.url} did not revoke: {error}") from error
