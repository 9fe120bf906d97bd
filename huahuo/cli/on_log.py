"""What a command does to a data directory: on the log if no service runs, else through the service."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from huahuo.app import keys, service_file
from huahuo.app.config import Settings
from huahuo.app.tokens import token_source
from huahuo.build import BUILD
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.errors import EventStoreError, InUse
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientError, CommandError

_TIMEOUT_S: Final = 30.0

type OnLog = Callable[[Log], Awaitable[Any]]


async def do(settings: Settings, on_log: OnLog, refused: type[Exception], action: str, **fields: Any) -> Any:
    """Do it with `on_log`, or by the action of a service that has the log. `refused`: what `on_log` raises.

    Raises:
        HuahuoError: it was refused, or the log or the service cannot be used.
    """
    master_key, ambient = keys.read_master_key(settings), SystemAmbient()
    try:
        log = await SqliteLog.open(settings.data, ambient=ambient, master_key=master_key, build=BUILD)
    except InUse:
        return await _through_service(settings, action, fields)
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
    try:
        return await on_log(log)
    except (refused, EventStoreError) as error:
        raise HuahuoError(str(error)) from error
    finally:
        await log.close()


async def _through_service(settings: Settings, action: str, fields: dict[str, Any]) -> Any:
    service = service_file.read(settings.data)
    if service is None:
        raise HuahuoError(f"{settings.data} is in use, but {service_file.FILE} does not say by which service")
    source = token_source(None, settings, SystemAmbient())
    try:
        async with (
            Client(service.url, get_token=source, language="en") as client,
            asyncio.timeout(_TIMEOUT_S),
        ):
            return await client.send(action, **fields)
    except CommandError as error:
        raise HuahuoError(error.details or str(error)) from error  # in the words that `on_log` raises
    except (ClientError, TimeoutError) as error:
        raise HuahuoError(str(error) or f"no answer from the service at {service.url}") from error
