"""The bodies of `huahuo projections`: through the running service, or on the log where none runs."""

from collections.abc import Collection
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from huahuo.actors.domain import rebuilding
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.projections import at_rest, no_follower
from huahuo.actors.followers import record
from huahuo.actors.followers.record import Tables
from huahuo.actors.timers import rebuilding as timers
from huahuo.actors.timers.timer import TABLE as TIMERS
from huahuo.app.config import Settings
from huahuo.app.plugins import chosen, projections
from huahuo.audit.bodies import must_be_original
from huahuo.audit.place import reading
from huahuo.audit.record import REBUILD_S, ask_service, note, principal, writing
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.sqlite.directory_lock import is_original
from huahuo.terminal import printable

_REBUILD = "huahuo projections rebuild"
_COLUMNS = ("name", "what", "cursor", "lag", "state", "dead letters", "error")


async def show(
    settings: Settings, declared: Collection[str] | None, *, as_json: bool, console: Console
) -> None:
    """Print the columns' names, then one line for each table and follower; as JSON, no names.

    Raises:
        ConfigError: there is no log. HuahuoError: it cannot be read, or the service refused.
    """
    rows = await _rows(settings, declared)
    if console.is_terminal and not as_json:
        table = Table(*_COLUMNS, box=None)
        for row in rows:
            table.add_row(*_cells(row))
        console.print(table)
        return
    if as_json:
        lines = [msgspec.json.encode(row).decode() for row in rows]
    else:
        lines = ["\t".join(cells) for cells in (_COLUMNS, *map(_cells, rows))]
    typer.echo("\n".join(lines))  # rich would print blanks in place of tabs


async def rebuild(settings: Settings, ambient: Ambient, name: str, console: Console) -> str:
    """Make a table anew. Returns what it was made from, as "17 rows of states".

    Raises:
        ConfigError: there is no such table. HuahuoError: the running service refused.
    """
    must_be_original(settings)
    async with writing(settings) as log:
        if log is not None:
            catalog = _catalog()
            if name != TIMERS and name not in rebuilding.tables(log, catalog):
                raise ConfigError(await _no_table(log, name))
            await note(log, "projections rebuild", {"name": name})
            with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task(f"making {name} anew", total=None)

                def told(done: int, whole: int) -> None:
                    progress.update(task, completed=done, total=whole)

                if name == TIMERS:
                    return f"{await timers.rebuild(log, now_ms=ambient.now_ms(), told=told)} timers"
                count = await rebuilding.rebuild(log, name, catalog, now_ms=ambient.now_ms(), told=told)
                return _made_from(count, states=name in catalog.derived)
    if name == TIMERS:
        raise HuahuoError(
            f"a service runs on {settings.data}: stop it, then run `huahuo projections rebuild {name}`"
        )
    reply: Any = await ask_service(settings, "rebuild_projection", timeout_s=REBUILD_S, name=name)
    return _made_from(reply["rows"], states=reply["states"])


def _made_from(count: int, *, states: bool) -> str:
    return f"{count} {'rows of states' if states else 'changes of rows'}"


async def begin_anew(settings: Settings, name: str, file: str) -> bool:
    """Empty an index of a plug-in. Whether a running service makes it anew now, else its next start does.

    Raises:
        HuahuoError: the service refused.
    """
    must_be_original(settings)
    async with writing(settings) as log:
        if log is not None:
            await note(log, "projections rebuild", {"name": name})
            for suffix in ("", "-wal", "-shm"):
                (settings.data / f"{file}{suffix}").unlink(missing_ok=True)
            return False
    await ask_service(settings, "rebuild_projection", name=name)
    return True


async def pause(
    settings: Settings, ambient: Ambient, name: str, declared: Collection[str] | None, *, paused: bool
) -> None:
    """Pause a follower, or let it go on.

    Raises:
        ConfigError: there is no such follower. HuahuoError: the service refused.
    """
    must_be_original(settings)
    async with writing(settings) as log:
        if log is not None:
            kept = await _kept(log, name, declared)
            if kept.paused != paused:
                await log.append(record.pausing(name, principal(), ambient.now_ms(), paused=paused))
            return
    await ask_service(settings, "pause_projection" if paused else "resume_projection", name=name)


async def place(
    settings: Settings, ambient: Ambient, name: str, declared: Collection[str] | None, after: int
) -> None:
    """Put a follower behind position `after`.

    Raises:
        ConfigError: there is no such follower or position. HuahuoError: a service runs on the directory.
    """
    must_be_original(settings)
    async with writing(settings) as log:
        if log is None:
            raise HuahuoError(
                f"a service runs on {settings.data}: stop it, then run `huahuo projections place {name}`"
            )
        if name not in (known := {*(declared or ()), *await record.names(log)}):
            raise ConfigError(no_follower(name, known))
        if not 0 <= after <= log.position:
            raise ConfigError(f"--after must be from 0 to {log.position}, where the log ends")
        await log.append(record.placing(name, after, principal(), ambient.now_ms()))


async def retry(settings: Settings, ambient: Ambient, name: str, declared: Collection[str] | None) -> int:
    """Have the dead letters of a follower tried again, and return how many.

    Raises:
        ConfigError: there is no such follower. HuahuoError: the service refused.
    """
    must_be_original(settings)
    async with writing(settings) as log:
        if log is not None:
            kept = await _kept(log, name, declared)
            if kept.dead:
                await log.append(record.retrying(name, kept.dead.items(), principal(), ambient.now_ms()))
            return len(kept.dead)
    reply: Any = await ask_service(settings, "retry_projection", name=name)
    return int(reply["dead_letters"])


async def _rows(settings: Settings, declared: Collection[str] | None) -> list[dict[str, Any]]:
    if not is_original(settings.data):
        async with reading(settings) as place:
            return await _at_rest(place.log, declared)
    async with writing(settings) as log:
        if log is not None:
            return await _at_rest(log, declared)
    reply: Any = await ask_service(settings, "get_projections")
    return list(reply["data"])


async def _at_rest(log: Tables, declared: Collection[str] | None) -> list[dict[str, Any]]:
    found = await at_rest(log, _catalog(), declared, projections())
    return [msgspec.structs.asdict(one) for one in found]


async def _kept(log: StoreLog, name: str, declared: Collection[str] | None) -> record.Recorded:
    known = {*(declared or ()), *await record.names(log)}
    if name not in known:
        if name == TIMERS or name in rebuilding.tables(log, _catalog()):
            raise ConfigError(f"{name} is a table: its rows change with the events, so nothing waits there")
        raise ConfigError(no_follower(name, known))
    return await record.read(log, name)


def _catalog() -> Catalog:
    """The entities of the application that this command was told of; without one, there is only `job`."""
    return chosen().entities.catalog


async def _no_table(log: StoreLog, name: str) -> str:
    if name in await record.names(log):
        return (
            f"{name} is a follower: what it wrote is not in the log. To deliver everything again, give it"
            " another name in the application"
        )
    if name in await rebuilding.remembered(log):
        return (
            f"the rows of {name} follow from states by @….rows({name!r}): say --app MODULE:NAME with the"
            " application that has it"
        )
    return f"there is no table {name!r}: there are {', '.join((TIMERS, *rebuilding.tables(log, _catalog())))}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    names = ("name", "what", "cursor", "lag", "state", "dead_letters", "error")
    return tuple(printable(str(row[name])) for name in names)
