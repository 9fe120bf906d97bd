"""The logs that audit commands read, and the event that each access to a live one leaves in it.

The event is on the stream `audit`.

Call `await record(settings, "replay state", {"entity": "mailbox/17"})` before any content is shown. It
writes through the running service as an admin, or under the writer's lock if no service runs.

* If a service runs, its log is read in parallel with it, in short read-only transactions.
* If none runs, this process holds the writer's lock while it reads.
* Of a copy, the files are copied once more to a private place, and no event is recorded: copies are never
  changed.
"""

import asyncio
import os
import pwd
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from huahuo.admin import recorded_event
from huahuo.app import credentials, service_port
from huahuo.app.config import Settings
from huahuo.app.credentials import others_beside, token_source
from huahuo.app.service_port import not_ready, way_on
from huahuo.build import BUILD
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.audit.index import DATABASE as INDEX
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import EventStoreError, InUse
from huahuo.eventstore.model import Append
from huahuo.eventstore.sqlite.directory_lock import is_original
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
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
    master_key, ambient = credentials.read_master_key(settings), SystemAmbient()
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
) -> dict[str, Any]:
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


async def do(
    settings: Settings,
    on_log: Callable[[StoreLog], Awaitable[dict[str, Any]]],
    action: str,
    *,
    timeout_s: float = TIMEOUT_S,
    **fields: Any,
) -> dict[str, Any]:
    """Do it with `on_log`, which replies as the action does, or by the action of a service that has the log.

    Raises as `writing` and `ask_service`.
    """
    async with writing(settings) as log:
        if log is not None:
            return await on_log(log)
    return await ask_service(settings, action, timeout_s=timeout_s, **fields)


def _url_of(settings: Settings) -> str:
    service = service_port.read_address(settings.data)
    if service is None:
        raise HuahuoError(
            f"no running service is known for {settings.data} (there is no {service_port.SERVICE_FILE}):"
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


def no_log(data: Path) -> str:
    """What is said of a directory without a log."""
    return f"there is no log in {data}: check --data{others_beside(data)}"


class Place:
    """A log to read. `path` is its database file, `index` the path of its audit index.

    `is_copy`: both are private copies. `live`: a service has the log open. `upto` is its position before
    this access was recorded, `recorded` whether it left an event.
    """

    def __init__(self, log: LogReader, path: Path, *, upto: int, recorded: bool) -> None:
        self.log = log
        self.path = path
        self.index = path.with_name(INDEX)
        self.upto = upto
        self.recorded = recorded
        self.is_copy = isinstance(log, SqliteView) and not log.live
        self.live = isinstance(log, SqliteView) and log.live


@asynccontextmanager
async def looking(settings: Settings, action: str, what: Mapping[str, object]) -> AsyncIterator[Place]:
    """The log of `settings.data`, after an event has recorded that `action` asked for `what`.

    Raises:
        ConfigError: there is no log. HuahuoError: the access could not be recorded, so it is refused.
    """
    data = settings.data
    if not (data / DATABASE).is_file():
        raise ConfigError(no_log(data))
    if is_original(data):
        async with writing(settings) as log:
            if log is not None:
                upto = log.position
                await note(log, action, what)
                yield Place(log, data / DATABASE, upto=upto, recorded=True)
                return
    view = await _view(data)
    try:
        upto = view.position
        recorded = await record(settings, action, what)
        await view.refresh()
        place = Place(view, view.path, upto=upto, recorded=recorded)
        if not view.live:
            _take_along(data, place.index)
        yield place
    finally:
        await view.close()


@asynccontextmanager
async def reading(settings: Settings, beside: Path | None = None) -> AsyncIterator[Place]:
    """The log of `settings.data`, without a record: only for commands that show none of its content.

    `beside`: where there is room for the copy that is read if no service runs.

    Raises:
        ConfigError: there is no log. EventStoreError: it cannot be read.
    """
    if not (settings.data / DATABASE).is_file():
        raise ConfigError(no_log(settings.data))
    view = await SqliteView.open(settings.data, beside)
    try:
        say_missing(view)
        yield Place(view, view.path, upto=view.position, recorded=False)
    finally:
        await view.close()


async def _view(data: Path) -> SqliteView:
    try:
        view = await SqliteView.open(data)
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
    say_missing(view)
    return view


def say_missing(view: SqliteView) -> None:
    """If events are known to be missing from a log that is only read, say so on standard error."""
    if view.missing:
        print(f"huahuo: {view.missing}", file=sys.stderr)  # noqa: T201


def _take_along(data: Path, index: Path) -> None:
    """Reuse an index that was copied together with its log."""
    for suffix in ("", "-journal"):
        source = data / (INDEX + suffix)
        if source.is_file():
            shutil.copyfile(source, index.with_name(INDEX + suffix))
