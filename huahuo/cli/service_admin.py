"""`huahuo cluster`, `projections`, and the bodies of `clients` and `revoke`: what an administrator asks.

They go through the running service of a directory or one elsewhere; projections and `revoke` also work on
the log, under the writer's lock, where none runs.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

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
from huahuo.app import credentials
from huahuo.app.application import chosen, followers
from huahuo.app.application import projections as projections_of_plugins
from huahuo.app.config import Settings
from huahuo.app.hiding import hide_password
from huahuo.audit.audited_log import (
    REBUILD_S,
    TIMEOUT_S,
    Elsewhere,
    ask_service,
    do,
    note,
    principal,
    reading,
    writing,
)
from huahuo.audit.commands import must_be_original
from huahuo.cli import maintenance
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.sqlite.directory_lock import is_original
from huahuo.options import Json, command, console, program, run, token_option
from huahuo.terminal import counted, printable, show_json
from huahuo.transport.client.model import CommandError
from huahuo.transport.commands.published_events import PublishRefused
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.protocol.codes import ErrorCode, in_english

SILENT_S = 10.0
"""A node that said nothing for longer is shown as silent."""
TRIM_S = 60.0
_ALONE = "this service is alone: it was started without --log"
_ALONE_YET = f"{_ALONE}; or it has not joined the other nodes yet, and its /readyz says why"
_AMBIENT: Final = SystemAmbient()

type Row = dict[str, Any]


def _show_rows(
    rows: Sequence[Row], columns: Sequence[str], cells: Callable[[Row], Sequence[str]], *, as_json: bool
) -> None:
    """Print the columns' names and one line per row; as JSON, the rows only."""
    out = console()
    if as_json:
        for row in rows:
            show_json(row)
    elif out.is_terminal:
        table = Table(*columns, box=None)
        for row in rows:
            table.add_row(*map(printable, cells(row)))
        out.print(table)
    else:
        for line in (columns, *map(cells, rows)):
            typer.echo("\t".join(map(printable, line)))  # rich would print blanks in place of tabs


Log = Annotated[str, typer.Option(help="Address of the ordered log; else the setting `log`.")]
Undo = Annotated[bool, typer.Option("--undo", help="Take the node back.")]
Alone = Annotated[
    bool, typer.Option("--alone", help="Also if no other living node and no backup holds what is trimmed.")
]
Node = Annotated[
    str, typer.Argument(help="Its name, as `huahuo cluster status` prints it.", show_default=False)
]
Url = Annotated[str | None, typer.Option(help="A node to ask, also of another machine; else that of --data.")]
Token = Annotated[str | None, token_option("An administrator's token; else made of --data's key.")]

cluster_app = program("cluster", "")  # its help, and that of `projections_app`, is in huahuo/cli/main.py


@command(cluster_app, "huahuo cluster keys --data ./node-1")
def keys(given: Settings) -> None:
    """Make the two keys that all nodes share, in the directory of the first one. Those that exist stay."""
    credentials.ensure_keys(msgspec.structs.replace(given, log=""), _AMBIENT)
    files = f"{credentials.JWT_FILE} and {credentials.MASTER_FILE}"
    typer.echo(f"copy {files} of {given.data} to the directory of each node")


@command(cluster_app, "huahuo cluster status --data ./node-1, or --url http://web-1:8765 --token …")
def status(given: Settings, url: Url = None, token: Token = None, as_json: Json = False) -> None:
    """Print every node: where it is, how far it is, its clients, and which one does the work."""
    rows = _asked(given, Elsewhere(url, token), "get_nodes")["data"]
    if not rows and not as_json:
        raise HuahuoError(_ALONE)
    columns = ("node", "URL", "applied", "behind", "clients", "load", "state")
    _show_rows(rows, columns, _node_cells, as_json=as_json)


@command(cluster_app, "huahuo cluster remove web-3 --data ./node-1")
def remove(given: Settings, node: Node, url: Url = None, token: Token = None) -> None:
    """Forget a node that will not come back. It is a member again if it does."""
    _asked(given, Elsewhere(url, token), "remove_node", node=node)
    typer.echo(f"{node} is forgotten; if it comes back, it is a node again")


@command(cluster_app, "huahuo cluster adopt --data ./data --log nats://a,b,c")
def adopt(given: Settings, log: Log = "") -> None:
    """Make the stopped directory of a single service the first node of an empty ordered log."""
    hide_password(log)
    if log:
        given = msgspec.structs.replace(given, log=log)
    run(maintenance.adopt(given, _AMBIENT, typer.echo))


@command(cluster_app, "huahuo cluster drain web-3 --data ./node-1")
def drain(given: Settings, node: Node, undo: Undo = False, url: Url = None, token: Token = None) -> None:
    """Send a node's clients elsewhere and let it rest, so that it can be stopped. A restart undoes it too."""
    reply = _asked(given, Elsewhere(url, token), "drain_node", node=node, undo=undo)
    if undo:
        typer.echo(f"{node} takes clients and work again")
        return
    sent = f"{counted(reply['clients'], 'client')} {'was' if reply['clients'] == 1 else 'were'}"
    typer.echo(f"{node} is not ready any more, and {sent} sent away: stop it now")


@command(cluster_app, "huahuo cluster trim --data ./node-1")
def trim(given: Settings, alone: Alone = False, url: Url = None, token: Token = None) -> None:
    """Let the ordered log forget now what all living nodes have applied. By itself it does so after hours."""
    reply = _asked(given, Elsewhere(url, token), "trim_log", TRIM_S, alone=alone)
    typer.echo(f"the ordered log begins at offset {reply['before']} now")


@command(cluster_app, "huahuo cluster finalize --data ./node-1")
def finalize(given: Settings, url: Url = None, token: Token = None) -> None:
    """After an update of all nodes: write the newest format that they know, and the rows of the new version.

    Nodes of an older format can't join then.
    """
    reply = _asked(given, Elsewhere(url, token), "finalize_cluster", REBUILD_S)
    typer.echo(f"all nodes write format {reply['format']}")


def _asked(
    settings: Settings, elsewhere: Elsewhere, action: str, timeout_s: float = TIMEOUT_S, **fields: object
) -> Row:
    try:
        return run(ask_service(settings, action, elsewhere=elsewhere, timeout_s=timeout_s, **fields))
    except HuahuoError as error:
        refused = error.__cause__
        if isinstance(refused, CommandError) and refused.code == ErrorCode.UNKNOWN_ACTION:
            raise HuahuoError(_ALONE_YET) from error
        raise


def _node_cells(row: Row) -> tuple[str, ...]:
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
    numbers = str(row["applied"]), str(row["behind"]), str(row["connections"]), f"{row['load']:.2f}"
    return (row["node"], row["url"], *numbers, state + (" (asked)" if row["here"] else ""))


def clients(settings: Settings, *, as_json: bool) -> None:
    """Print the clients of the running service, and how many are behind; as JSON, the clients only.

    Raises:
        HuahuoError: no service runs on this directory, or it refused.
    """
    reply = run(ask_service(settings, "get_clients"))
    rows = reply["data"]
    where = ("node",) if any("node" in row for row in rows) else ()
    columns = (*where, "user", "name", "client", "connected at", "events behind", "streams")
    _show_rows(rows, columns, _client_cells, as_json=as_json)
    if as_json:
        return
    typer.echo(f"{len(rows)} connected (this command too), {sum(_lag(row) > 0 for row in rows)} behind")
    if reply.get("silent"):
        typer.echo(f"no answer from {', '.join(map(printable, reply['silent']))}")


def _client_cells(row: Row) -> tuple[str, ...]:
    where = (row["node"],) if "node" in row else ()
    who = row["user"], row["username"], row["client"], row["connected_at"]
    return (*where, *who, str(_lag(row)), " ".join(f"{one['stream']}@{one['seq']}" for one in row["streams"]))


def _lag(row: Row) -> int:
    return sum(int(one["lag"]) for one in row["streams"])


def revoke(settings: Settings, *, user_id: UserId | None, jti: str | None) -> None:
    """Make the revocation durable. A running service closes the sockets within a second.

    Raises:
        HuahuoError: there is no such directory, the log cannot be opened, or the service refused.
    """

    async def on_log(log: StoreLog) -> Row:
        publisher = Publisher(log, SystemAmbient(), Registry())
        try:
            await publisher.revoke(user_id=user_id, jti=jti, principal="huahuo revoke")
        except PublishRefused as error:
            refusal = error.refusal
            raise HuahuoError(in_english(refusal.code, refusal.message, refusal.details)) from error
        return {}

    run(do(settings, on_log, "revoke", **({"jti": jti} if user_id is None else {"user_id": user_id})))


projections_app = program("projections", "")

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `huahuo projections list` shows it.")]


@command(projections_app, "huahuo projections list --data ./data --app shop:app", "list")
def list_(given: Settings, as_json: Json = False) -> None:
    """List tables and followers with cursor, lag, state and dead letters."""
    columns = ("name", "what", "cursor", "lag", "state", "dead letters", "error")

    def cells(row: Row) -> list[str]:
        return [str(row[name.replace(" ", "_")]) for name in columns]

    _show_rows(run(_projection_rows(given)), columns, cells, as_json=as_json)


@command(projections_app, "huahuo projections rebuild orders --data ./data")
def rebuild(given: Settings, name: Name) -> None:
    """Make the rows of a table, or an index of a plug-in, anew from the log.

    A running service does it itself, and goes on meanwhile; `timers` needs a service that is stopped.
    """
    if (file := projections_of_plugins().get(name)) is not None:
        _begin_anew(given, name, file)
        return
    source = run(_rebuild(given, name, console(stderr=True)))
    typer.echo(f"{name}: made anew from {source}")


@command(projections_app, "huahuo projections pause orders-to-crm --data ./data")
def pause(given: Settings, name: Name) -> None:
    """Deliver nothing more to a follower. It keeps its place."""
    _pause(given, name, paused=True)
    typer.echo(f"{name}: paused")


@command(projections_app, "huahuo projections resume orders-to-crm --data ./data")
def resume(given: Settings, name: Name) -> None:
    """Let a paused follower go on where it stands."""
    _pause(given, name, paused=False)
    typer.echo(f"{name}: goes on")


@command(projections_app, "huahuo projections retry orders-to-crm --data ./data")
def retry(given: Settings, name: Name) -> None:
    """Deliver the dead letters of a follower once more, now or with the next start."""
    must_be_original(given)

    async def on_log(log: StoreLog) -> Row:
        dead = (await _kept(log, name)).dead
        if dead:
            await log.append(record.retrying(name, dead.items(), principal(), _AMBIENT.now_ms()))
        return {"dead_letters": len(dead)}

    count = int(run(do(given, on_log, "retry_projection", name=name))["dead_letters"])
    typer.echo(f"{name}: {counted(count, 'dead letter')} {'is' if count == 1 else 'are'} tried again")


@command(projections_app, "huahuo projections place orders-to-crm --after 0 --data ./data")
def place(
    given: Settings,
    name: Name,
    after: Annotated[int, typer.Option(help="It goes on behind this position; 0 delivers everything again.")],
) -> None:
    """Give a follower that lost its place another one; the service must be stopped.

    Its dead letters are forgotten.
    """
    run(_place(given, name, after))
    typer.echo(f"{name}: goes on behind position {after}")


async def _rebuild(settings: Settings, name: str, console: Console) -> str:
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
                    return f"{await timers.rebuild(log, now_ms=_AMBIENT.now_ms(), told=told)} timers"
                count = await projections.rebuild_rows(
                    log, name, catalog, now_ms=_AMBIENT.now_ms(), told=told
                )
                return _made_from(count, states=name in catalog.derived)
    if name == TIMERS:
        raise HuahuoError(
            f"a service runs on {settings.data}: stop it, then run `huahuo projections rebuild {name}`"
        )
    reply = await ask_service(settings, "rebuild_projection", timeout_s=REBUILD_S, name=name)
    return _made_from(reply["rows"], states=reply["states"])


def _made_from(count: int, *, states: bool) -> str:
    return f"{count} {'rows of states' if states else 'changes of rows'}"


def _begin_anew(given: Settings, name: str, file: str) -> None:
    """Empty an index of a plug-in: a running service makes it anew now, else its next start does."""
    must_be_original(given)
    when = "now"

    async def on_log(log: StoreLog) -> Row:
        nonlocal when
        await note(log, "projections rebuild", {"name": name})
        for suffix in ("", "-wal", "-shm"):
            (given.data / f"{file}{suffix}").unlink(missing_ok=True)
        when = "with the next start"
        return {}

    run(do(given, on_log, "rebuild_projection", name=name))
    typer.echo(f"{name}: is made anew from the log, {when}")


def _pause(given: Settings, name: str, *, paused: bool) -> None:
    """Pause a follower, or let it go on."""
    must_be_original(given)

    async def on_log(log: StoreLog) -> Row:
        if (await _kept(log, name)).paused != paused:
            await log.append(record.pausing(name, principal(), _AMBIENT.now_ms(), paused=paused))
        return {}

    run(do(given, on_log, "pause_projection" if paused else "resume_projection", name=name))


async def _place(settings: Settings, name: str, after: int) -> None:
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
        if name not in (known := {*(followers() or ()), *await record.names(log)}):
            raise ConfigError(no_follower(name, known))
        if not 0 <= after <= log.position:
            raise ConfigError(f"--after must be from 0 to {log.position}, where the log ends")
        await log.append(record.placing(name, after, principal(), _AMBIENT.now_ms()))


async def _projection_rows(settings: Settings) -> list[Row]:
    if not is_original(settings.data):
        async with reading(settings) as place:
            return await _at_rest(place.log)

    async def on_log(log: StoreLog) -> Row:
        return {"data": await _at_rest(log)}

    return list((await do(settings, on_log, "get_projections"))["data"])


async def _at_rest(log: Tables) -> list[Row]:
    found = await at_rest(log, _catalog(), followers(), projections_of_plugins())
    return [msgspec.structs.asdict(one) for one in found]


async def _kept(log: StoreLog, name: str) -> record.Recorded:
    known = {*(followers() or ()), *await record.names(log)}
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
