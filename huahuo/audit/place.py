"""The logs that audit commands read: a live directory in place, after the access was recorded, or a copy.

* If a service runs, its log is read in parallel with it, in short read-only transactions.
* If none runs, this process holds the writer's lock while it reads.
* Of a copy, the files are copied once more to a private place, and no event is recorded.
"""

import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from huahuo.app.config import Settings
from huahuo.app.keys import others_beside
from huahuo.audit.record import note, record, writing
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.audit.index import DATABASE as INDEX
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.directory_lock import is_original
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView


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
