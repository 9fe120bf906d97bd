"""The record of an audit: each access to a live log leaves an event on the stream `audit`.

Call `await record(settings, "replay state", {"entity": "mailbox/17"})` before any content is shown. It writes
through the running service as an admin, or under the writer's lock if no service runs. For a copy of a
directory no event is recorded, because copies are never changed.
"""

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from huahuo.admin.record_event import recorded_event
from huahuo.app import keys, service_file
from huahuo.app.config import Settings
from huahuo.app.tokens import token_source
from huahuo.build import BUILD
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import EventStoreError, InUse
from huahuo.eventstore.model import Append
from huahuo.eventstore.sqlite.directory_lock import is_original
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientError

TIMEOUT_S = 10.0


async def record(settings: Settings, action: str, what: Mapping[str, object]) -> bool:
    """Record durably that `action` asked for `what`. False on a copy, where nothing is recorded.

    `what` must hold no secret.

    Raises:
        HuahuoError: the directory is live, but the event could not be written.
    """
    if not is_original(settings.data):
        return False
    async with writing(settings) as log:
        if log is not None:
            await note(log, action, what)
            return True
    await ask_service(settings, "audit_record", doing=action, what={**what, "operator": operator()})
    return True


async def note(log: StoreLog, action: str, what: Mapping[str, object]) -> None:
    """Record an access to a log that this process itself has open. Raises as `StoreLog.append`."""
    now_ms, by = SystemAmbient().now_ms(), operator()
    event = recorded_event(action, {**what, "operator": by}, now_ms)
    await log.append(Append(ts_ms=now_ms, events=(event,), principal=principal()))


@asynccontextmanager
async def writing(settings: Settings) -> AsyncIterator[StoreLog | None]:
    """The log under the writer's lock, None if another process (a service) holds the lock.

    Raises:
        HuahuoError: there is no such directory, or the log cannot be opened.
    """
    master_key, ambient = keys.read_master_key(settings), SystemAmbient()
    try:
        log = await SqliteLog.open(settings.data, ambient=ambient, master_key=master_key, build=BUILD)
    except InUse:
        yield None
        return
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
    try:
        yield log
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
    finally:
        await log.close()


async def ask_service(
    settings: Settings, action: str, *, timeout_s: float = TIMEOUT_S, **fields: object
) -> dict[str, object]:
    """Send one command to the running service as an admin, and return its reply.

    Raises:
        HuahuoError: the service's address is not known, or it refused.
    """
    service = service_file.read(settings.data)
    if service is None:
        raise HuahuoError(
            f"no running service is known for {settings.data} (there is no {service_file.FILE}):"
            f" start it by `huahuo serve --data {settings.data}`"
        )
    source = token_source(None, settings, SystemAmbient())
    try:
        async with Client(service.url, get_token=source, language="en") as client, asyncio.timeout(timeout_s):
            return dict(await client.send(action, **fields))
    except (ClientError, TimeoutError) as error:
        raise HuahuoError(f"the service at {service.url} refused {action}: {error}") from error


def operator() -> str:
    """The operating system's name of the user that runs this program."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def principal() -> str:
    """The author of events from the command line."""
    return f"cli/{operator()}"[:255]
