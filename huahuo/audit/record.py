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

import msgspec

from huahuo.admin.record_event import recorded_event
from huahuo.app import keys, service_file
from huahuo.app.ask import not_ready
from huahuo.app.config import Settings
from huahuo.app.own_token import way_on
from huahuo.app.tokens import token_source
from huahuo.build import BUILD
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import EventStoreError, InUse
from huahuo.eventstore.model import Append
from huahuo.eventstore.sqlite.directory_lock import is_original
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.terminal import printable
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientError, ClientStopped

TIMEOUT_S = 10.0
REBUILD_S = 3600.0
"""How long the service may make tables anew."""


class Elsewhere(msgspec.Struct, frozen=True):
    """The service that is asked in place of that of the directory, and with which token; None: as there."""

    url: str | None = None
    token: str | None = None


OF_DIRECTORY = Elsewhere()


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
    settings: Settings,
    action: str,
    *,
    timeout_s: float = TIMEOUT_S,
    elsewhere: Elsewhere = OF_DIRECTORY,
    **fields: object,
) -> dict[str, object]:
    """Send one command to the running service as an admin, and return its reply.

    Raises:
        ConfigError: the address in `elsewhere` is malformed.
        HuahuoError: the service's address is not known, it refused, or it did not answer in time.
    """
    url, ambient = elsewhere.url or _url_of(settings), SystemAmbient()
    source = token_source(elsewhere.token, settings, ambient)
    try:
        client = Client(url, get_token=source, language="en")
    except ValueError as error:
        raise ConfigError(f"--url: {error}") from error
    try:
        async with client, asyncio.timeout(timeout_s):
            return dict(await client.send(action, **fields))
    except TimeoutError as error:
        reason = not_ready(url)
        told = f"; its /readyz says: {printable(reason)}" if reason else ""
        done = "" if action.startswith("get_") else ", and may have done it"
        raise HuahuoError(
            f"the service at {url} has not answered {action} within {timeout_s:g} s{done}{told}"
        ) from error
    except ClientError as error:
        hint = ""
        if isinstance(error, ClientStopped) and not elsewhere.token:
            hint = way_on(url, error.code, settings.data, ambient)
        raise HuahuoError(
            f"the service at {url} refused {action}: {error}{f'. {hint}' if hint else ''}"
        ) from error


def _url_of(settings: Settings) -> str:
    service = service_file.read(settings.data)
    if service is None:
        raise HuahuoError(
            f"no running service is known for {settings.data} (there is no {service_file.FILE}):"
            f" start it by `huahuo serve --data {settings.data}`"
        )
    return service.url


def operator() -> str:
    """The operating system's name of the user that runs this program."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def principal() -> str:
    """The author of events from the command line."""
    return f"cli/{operator()}"[:255]
