"""What an administrator asks of a running service: nodes, clients, projections, and to revoke tokens.

The bodies of `huahuo cluster`, `clients`, `revoke` and `projections`: through the running service of a
directory or one elsewhere; projections and `revoke` also on the log, under the writer's lock, where none
runs.
"""

from collections.abc import Collection
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from huahuo.actors.domain import projections
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.projections import at_rest, no_follower
from huahuo.actors.followers import record
from huahuo.actors.followers.record import Tables
from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.calls import UserId
from huahuo.actors.timers import timer_table as timers
from huahuo.actors.timers.timer import TABLE as TIMERS
from huahuo.app.application import chosen
from huahuo.app.application import projections as projections_of_plugins
from huahuo.app.config import Settings
from huahuo.audit.audited_log import (
    REBUILD_S,
    TIMEOUT_S,
    Elsewhere,
    ask_service,
    note,
    principal,
    reading,
    writing,
)
from huahuo.audit.commands import must_be_original
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.sqlite.directory_lock import is_original
from huahuo.terminal import printable
from huahuo.transport.client.model import CommandError
from huahuo.transport.commands.published_events import PublishRefused
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.protocol.codes import ErrorCode, in_english

SILENT_S = 10.0
"""A node that said nothing for longer is shown as silent."""
TRIM_S = 60.0
_ALONE = "this service is alone: it was started without --log"
_ALONE_YET = f"{_ALONE}; or it has not joined the other nodes yet, and its /readyz says why"
_NODE_COLUMNS = ("node", "URL", "applied", "behind", "clients", "load", "state")


async def status(settings: Settings, elsewhere: Elsewhere, *, as_json: bool, console: Console) -> None:
    """Print the columns' names and one line per node.

    Raises:
        HuahuoError: no service runs on this directory, it refused, or it is alone.
    """
    reply: Any = await _ask(settings, "get_nodes", elsewhere)
    rows: list[dict[str, Any]] = reply["data"]
    if as_json:
        for row in rows:
            console.out(msgspec.json.encode(row).decode(), highlight=False)
        return
    if not rows:
        raise HuahuoError(_ALONE)
    lines = [_node_cells(row) for row in rows]
    if not console.is_terminal:
        for cells in (_NODE_COLUMNS, *lines):
            typer.echo("\t".join(cells))  # rich would print blanks in place of tabs
        return
    table = Table(*_NODE_COLUMNS, box=None)
    for cells in lines:
        table.add_row(*cells)
    console.print(table)


async def remove(settings: Settings, elsewhere: Elsewhere, node: str) -> None:
    """Forget `node`.

    Raises:
        HuahuoError: as `status`; or the node is not known, or lives.
    """
    await _ask(settings, "remove_node", elsewhere, node=node)
    print(f"{node} is forgotten; if it comes back, it is a node again")  # noqa: T201


async def drain(settings: Settings, elsewhere: Elsewhere, node: str, *, undo: bool) -> None:
    """Drain `node`, or take it back. Raises as `remove`."""
    reply: Any = await _ask(settings, "drain_node", elsewhere=elsewhere, node=node, undo=undo)
    if undo:
        print(f"{node} takes clients and work again")  # noqa: T201
        return
    sent = "1 client was" if reply["clients"] == 1 else f"{reply['clients']} clients were"
    print(f"{node} is not ready any more, and {sent} sent away: stop it now")  # noqa: T201


async def trim(settings: Settings, elsewhere: Elsewhere, *, alone: bool) -> None:
    """Trim the ordered log. Raises as `status`; or it may not be trimmed now."""
    reply: Any = await _ask(settings, "trim_log", timeout_s=TRIM_S, elsewhere=elsewhere, alone=alone)
    print(f"the ordered log begins at offset {reply['before']} now")  # noqa: T201


async def finalize(settings: Settings, elsewhere: Elsewhere) -> None:
    """Finalize the format, and who writes rows. Raises as `status`; or a node is of an older version."""
    reply: Any = await _ask(settings, "finalize_cluster", elsewhere, REBUILD_S)
    print(f"all nodes write format {reply['format']}")  # noqa: T201


async def _ask(
    settings: Settings,
    action: str,
    elsewhere: Elsewhere,
    timeout_s: float = TIMEOUT_S,
    **fields: object,
) -> dict[str, object]:
    try:
        return await ask_service(settings, action, elsewhere=elsewhere, timeout_s=timeout_s, **fields)
    except HuahuoError as error:
        refused = error.__cause__
        if isinstance(refused, CommandError) and refused.code == ErrorCode.UNKNOWN_ACTION:
            raise HuahuoError(_ALONE_YET) from error
        raise


def _node_cells(row: dict[str, Any]) -> tuple[str, ...]:
    silent = row["silent_s"] > SILENT_S
    works = "works" if row["works"] else "ready"
    state = f"silent for {row['silent_s']:.0f} s" if silent else works
    if row["stopped"]:
        state = "stopped"
    elif not silent and not row["answers"]:
        state = "does not answer"
    elif not silent and not row["takes_clients"]:
        state = "works, takes no clients" if row["works"] else "takes no clients"
    if row["works"] and silent:
        state += ", had the work"
    cells = (
        row["node"],
        row["url"],
        str(row["applied"]),
        str(row["behind"]),
        str(row["connections"]),
        f"{row['load']:.2f}",
        state + (" (asked)" if row["here"] else ""),
    )
    return tuple(printable(cell) for cell in cells)


async def clients(settings: Settings, *, as_json: bool, console: Console) -> None:
    """Print the columns' names, one line per client, and how many are behind; as JSON, the clients only.

    Raises:
        HuahuoError: no service runs on this directory, or it refused.
    """
    reply: Any = await ask_service(settings, "get_clients")
    rows = reply["data"]
    if as_json:
        for row in rows:
            console.out(msgspec.json.encode(row).decode(), highlight=False)
        return
    if console.is_terminal:
        console.print(_client_table(rows))
    else:
        for cells in (_client_columns(rows), *map(_client_cells, rows)):
            typer.echo("\t".join(cells))  # rich would print blanks in place of tabs
    behind = sum(_lag(row) > 0 for row in rows)
    console.out(f"{len(rows)} connected (this command too), {behind} behind", highlight=False)
    if reply.get("silent"):
        console.out(f"no answer from {', '.join(map(printable, reply['silent']))}", highlight=False)


def _client_columns(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    where = ("node",) if any("node" in row for row in rows) else ()
    return (*where, "user", "name", "client", "connected at", "events behind", "streams")


def _client_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(*_client_columns(rows), box=None)
    for row in rows:
        table.add_row(*_client_cells(row))
    return table


def _client_cells(row: dict[str, Any]) -> tuple[str, ...]:
    streams = " ".join(f"{one['stream']}@{one['seq']}" for one in row["streams"])
    where = (row["node"],) if "node" in row else ()
    cells = (
        *where,
        row["user"],
        row["username"],
        row["client"],
        row["connected_at"],
        str(_lag(row)),
        streams,
    )
    return tuple(printable(cell) for cell in cells)


def _lag(row: dict[str, Any]) -> int:
    return sum(int(one["lag"]) for one in row["streams"])


async def revoke(settings: Settings, *, user_id: UserId | None, jti: str | None) -> None:
    """Make the revocation durable. A running service closes the sockets within a second.

    Raises:
        HuahuoError: there is no such directory, the log cannot be opened, or the service refused.
    """
    async with writing(settings) as log:
        if log is not None:
            publisher = Publisher(log, SystemAmbient(), Registry())
            try:
                await publisher.revoke(user_id=user_id, jti=jti, principal="huahuo revoke")
            except PublishRefused as error:
                refusal = error.refusal
                raise HuahuoError(in_english(refusal.code, refusal.message, refusal.details)) from error
            return
    await ask_service(settings, "revoke", **({"jti": jti} if user_id is None else {"user_id": user_id}))


_REBUILD = "huahuo projections rebuild"
_PROJECTION_COLUMNS = ("name", "what", "cursor", "lag", "state", "dead letters", "error")


async def show_projections(
    settings: Settings, declared: Collection[str] | None, *, as_json: bool, console: Console
) -> None:
    """Print the columns' names, then one line for each table and follower; as JSON, no names.

    Raises:
        ConfigError: there is no log. HuahuoError: it cannot be read, or the service refused.
    """
    rows = await _projection_rows(settings, declared)
    if console.is_terminal and not as_json:
        table = Table(*_PROJECTION_COLUMNS, box=None)
        for row in rows:
            table.add_row(*_projection_cells(row))
        console.print(table)
        return
    if as_json:
        lines = [msgspec.json.encode(row).decode() for row in rows]
    else:
        lines = ["\t".join(cells) for cells in (_PROJECTION_COLUMNS, *map(_projection_cells, rows))]
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
            if name != TIMERS and name not in projections.tables(log, catalog):
                raise ConfigError(await _no_table(log, name))
            await note(log, "projections rebuild", {"name": name})
            with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
                task = progress.add_task(f"making {name} anew", total=None)

                def told(done: int, whole: int) -> None:
                    progress.update(task, completed=done, total=whole)

                if name == TIMERS:
                    return f"{await timers.rebuild(log, now_ms=ambient.now_ms(), told=told)} timers"
                count = await projections.rebuild_rows(log, name, catalog, now_ms=ambient.now_ms(), told=told)
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


async def _projection_rows(settings: Settings, declared: Collection[str] | None) -> list[dict[str, Any]]:
    if not is_original(settings.data):
        async with reading(settings) as place:
            return await _at_rest(place.log, declared)
    async with writing(settings) as log:
        if log is not None:
            return await _at_rest(log, declared)
    reply: Any = await ask_service(settings, "get_projections")
    return list(reply["data"])


async def _at_rest(log: Tables, declared: Collection[str] | None) -> list[dict[str, Any]]:
    found = await at_rest(log, _catalog(), declared, projections_of_plugins())
    return [msgspec.structs.asdict(one) for one in found]


async def _kept(log: StoreLog, name: str, declared: Collection[str] | None) -> record.Recorded:
    known = {*(declared or ()), *await record.names(log)}
    if name not in known:
        if name == TIMERS or name in projections.tables(log, _catalog()):
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
    if name in await projections.remembered(log):
        return (
            f"the rows of {name} follow from states by @….rows({name!r}): say --app MODULE:NAME with the"
            " application that has it"
        )
    return (
        f"there is no table {name!r}: there are {', '.join((TIMERS, *projections.tables(log, _catalog())))}"
    )


def _projection_cells(row: dict[str, Any]) -> tuple[str, ...]:
    names = ("name", "what", "cursor", "lag", "state", "dead_letters", "error")
    return tuple(printable(str(row[name])) for name in names)
