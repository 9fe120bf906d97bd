"""Where the audit commands look: a live directory in place, after the look was recorded, or a copy.

* A service runs: its log is read beside it, in short read-only transactions.
* None runs: this process takes the writer's lock for as long as it looks.
* A copy: the files are copied once more, to a private place, and nothing is recorded.
"""

import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from huahuo.app.config import Settings
from huahuo.audit.record import note, record, writing
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.audit.index import DATABASE as INDEX
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite.directory_lock import is_original
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView


class Place:
    """A log to look into: `path` is its database file, `index` where its audit index belongs.

    `is_copy` says that both are private copies, `upto` is where the log stood before this look was
    recorded, `recorded` whether the look left an event.
    """

    def __init__(self, log: LogReader, path: Path, *, upto: int, recorded: bool) -> None:
        self.log = log
        self.path = path
        self.index = path.with_name(INDEX)
        self.upto = upto
        self.recorded = recorded
        self.is_copy = isinstance(log, SqliteView) and not log.live


@asynccontextmanager
async def looking(settings: Settings, action: str, what: Mapping[str, object]) -> AsyncIterator[Place]:
    """The log of `settings.data`, once it is recorded that `action` asked for `what`.

    Raises:
        ConfigError: there is no log. HuahuoError: the look could not be recorded, so it is refused.
    """
    data = settings.data
    if not (data / DATABASE).is_file():
        raise ConfigError(f"there is no log in {data}")
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
async def reading(settings: Settings) -> AsyncIterator[Place]:
    """The log of `settings.data` for what shows none of its content: nothing is recorded.

    Raises:
        ConfigError: there is no log. EventStoreError: it cannot be read.
    """
    if not (settings.data / DATABASE).is_file():
        raise ConfigError(f"there is no log in {settings.data}")
    view = await SqliteView.open(settings.data)
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
    """Say on standard error what is known to be missing from a log that is only read."""
    if view.missing:
        print(f"huahuo: {view.missing}", file=sys.stderr)  # noqa: T201


def _take_along(data: Path, index: Path) -> None:
    """An index that was copied with its log saves making it again."""
    for suffix in ("", "-journal"):
        source = data / (INDEX + suffix)
        if source.exists():
            shutil.copyfile(source, index.with_name(INDEX + suffix))
