"""Sources of history: a data directory, live or copied, or an export in JSON Lines.

A directory is only read. Before anything is shown, its end is checked against the hash chain. A damaged log
is refused with the position of the damage.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from huahuo.actors.plugins.past import Past
from huahuo.app.keys import others_beside
from huahuo.audit.place import say_missing
from huahuo.errors import ConfigError
from huahuo.eventstore.core.chain import GENESIS, check
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.eventstore.model import LOG_STREAM
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.replay.history.exported import parse_lines
from huahuo.replay.history.history import History, ListHistory
from huahuo.replay.history.subject import RecentSubject, Subject

CHECKED_EVENTS = 100_000
"""Newest events whose hashes are checked at every opening."""
_EXPORT_EVENTS_MAX = 5_000_000
_PAGE_EVENTS = 1000


@asynccontextmanager
async def opened(path: Path, *, whole: bool = False) -> AsyncIterator[History]:
    """The history at `path`. With `whole`, the hash of every event is checked.

    Raises:
        ConfigError: there is none. Damaged: it was changed; the text has the position.
        EventStoreError: it cannot be read.
    """
    if path.is_file():  # noqa: ASYNC240  nothing else runs on this loop
        yield load_export(path, whole=whole)
        return
    if not path.is_dir():  # noqa: ASYNC240
        raise ConfigError(f"there is no directory or export {path}: check --data{others_beside(path)}")
    view = await SqliteView.open(path)
    try:
        say_missing(view)
        await _check(view, whole=whole)
        yield view
    finally:
        await view.close()


def load_export(path: Path, *, whole: bool = False) -> ListHistory:
    """An export in memory. With `whole`, the hashes of its events are checked.

    Raises:
        ConfigError: it is not an export, or not one of a whole log, so it cannot be checked. Damaged.
    """
    try:
        with path.open("rb") as file:
            head, events = parse_lines(file)
            kept = []
            for event in events:
                kept.append(event)
                if len(kept) > _EXPORT_EVENTS_MAX:
                    raise ConfigError(f"{path} holds more than {_EXPORT_EVENTS_MAX} events: import it")
            if whole:
                if kept and len(kept) != kept[-1].position:
                    raise ConfigError(f"{path} is not of a whole log: its hashes cannot be checked")
                check(GENESIS, 0, {}, kept)
            return ListHistory(kept, head.log)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


async def subject(past: Past, history: History, entity: str) -> Subject:
    """The subject that `entity` names: an entity of a plug-in, or any stream.

    Raises:
        LookupError: the history has no event about it.
    """
    found = await past.subject_of(history, entity)
    if found is not None:
        return found
    if not history.head(entity).seq:
        raise LookupError(f"nothing ever happened to {entity}")
    return RecentSubject(entity)


async def _check(view: SqliteView, *, whole: bool) -> None:
    start = 0 if whole else max(0, view.position - CHECKED_EVENTS)
    try:
        await view.verify(start)
    except Damaged as error:
        if error.position:
            raise
        raise Damaged(await _unreadable(view, start), error.reason) from None


async def _unreadable(view: SqliteView, at: int) -> int:
    """The first position after `at` that SQLite cannot read."""
    for events_max in (_PAGE_EVENTS, 1):
        while at < view.position:
            try:
                page = await view.read(LOG_STREAM, at, events_max=events_max)
            except EventStoreError:
                break
            if not page:
                break
            at = page[-1].position
    return at + 1
