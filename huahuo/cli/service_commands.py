"""`huahuo cluster`, `projections`, `key`, `dictionary`, `config`: names, flags and help; no bodies."""

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.options import HERE, ConfigFile, Data, Json, console, program, settings, table, token_option

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

cluster_app = program("cluster", "Several nodes over one log (`huahuo serve --log …`).")


@cluster_app.command(epilog="Example:  huahuo cluster keys --data ./node-1")
def keys(data: Data = None, config_file: ConfigFile = None) -> None:
    """Make the two keys that all nodes share, in the directory of the first one. Those that exist stay."""
    import msgspec

    from huahuo.app import credentials as body
    from huahuo.eventstore.ambient import SystemAmbient

    given = settings(data, config_file)
    body.ensure_keys(msgspec.structs.replace(given, log=""), SystemAmbient())
    typer.echo(f"copy {body.JWT_FILE} and {body.MASTER_FILE} of {given.data} to the directory of each node")


@cluster_app.command(
    epilog="Example:  huahuo cluster status --data ./node-1, or --url http://web-1:8765 --token …"
)
def status(
    data: Data = None,
    url: Url = None,
    token: Token = None,
    as_json: Json = False,
    config_file: ConfigFile = None,
) -> None:
    """Print every node: where it is, how far it is, its clients, and which one does the work."""
    from rich.console import Console

    from huahuo.app.process import run
    from huahuo.audit.audited_log import Elsewhere
    from huahuo.cli.service_admin import status as body

    console = Console(highlight=False, emoji=False)
    run(body(settings(data, config_file), Elsewhere(url, token), as_json=as_json, console=console))


@cluster_app.command(epilog="Example:  huahuo cluster remove web-3 --data ./node-1")
def remove(
    node: Node, data: Data = None, url: Url = None, token: Token = None, config_file: ConfigFile = None
) -> None:
    """Forget a node that will not come back. It is a member again if it does."""
    from huahuo.app.process import run
    from huahuo.audit.audited_log import Elsewhere
    from huahuo.cli.service_admin import remove as body

    run(body(settings(data, config_file), Elsewhere(url, token), node))


@cluster_app.command(epilog="Example:  huahuo cluster adopt --data ./data --log nats://a,b,c")
def adopt(data: Data = None, log: Log = "", config_file: ConfigFile = None) -> None:
    """Make the stopped directory of a single service the first node of an empty ordered log."""
    import msgspec

    from huahuo.app.hiding import hide_password
    from huahuo.app.process import run
    from huahuo.cli.maintenance import adopt as body
    from huahuo.eventstore.ambient import SystemAmbient

    hide_password(log)
    given = settings(data, config_file)
    given = msgspec.structs.replace(given, log=log) if log else given
    run(body(given, SystemAmbient(), typer.echo))


@cluster_app.command(epilog="Example:  huahuo cluster drain web-3 --data ./node-1")
def drain(
    node: Node,
    undo: Undo = False,
    data: Data = None,
    url: Url = None,
    token: Token = None,
    config_file: ConfigFile = None,
) -> None:
    """Send a node's clients elsewhere and let it rest, so that it can be stopped. A restart undoes it too."""
    from huahuo.app.process import run
    from huahuo.audit.audited_log import Elsewhere
    from huahuo.cli.service_admin import drain as body

    run(body(settings(data, config_file), Elsewhere(url, token), node, undo=undo))


@cluster_app.command(epilog="Example:  huahuo cluster trim --data ./node-1")
def trim(
    alone: Alone = False,
    data: Data = None,
    url: Url = None,
    token: Token = None,
    config_file: ConfigFile = None,
) -> None:
    """Let the ordered log forget now what all living nodes have applied. By itself it does so after hours."""
    from huahuo.app.process import run
    from huahuo.audit.audited_log import Elsewhere
    from huahuo.cli.service_admin import trim as body

    run(body(settings(data, config_file), Elsewhere(url, token), alone=alone))


@cluster_app.command(epilog="Example:  huahuo cluster finalize --data ./node-1")
def finalize(data: Data = None, url: Url = None, token: Token = None, config_file: ConfigFile = None) -> None:
    """After an update of all nodes: write the newest format that they know, and the rows of the new version.

    Nodes of an older format can't join then.
    """
    from huahuo.app.process import run
    from huahuo.audit.audited_log import Elsewhere
    from huahuo.cli.service_admin import finalize as body

    run(body(settings(data, config_file), Elsewhere(url, token)))


projections_app = program(
    "projections", "Tables of rows and followers: where they stand, and what to do about it."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `huahuo projections list` shows it.")]


@projections_app.command("list", epilog="Example:  huahuo projections list --data ./data --app shop:app")
def list_(data: Data = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """List tables and followers with cursor, lag, state and dead letters."""
    from huahuo.app.application import followers
    from huahuo.cli import service_admin

    _run(
        service_admin.show_projections(
            settings(data, config_file), followers(), as_json=as_json, console=console()
        )
    )


@projections_app.command(epilog="Example:  huahuo projections rebuild orders --data ./data")
def rebuild(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Make the rows of a table, or an index of a plug-in, anew from the log.

    A running service does it itself, and goes on meanwhile; `timers` needs a service that is stopped.
    """
    from huahuo.app.application import projections
    from huahuo.cli import service_admin
    from huahuo.eventstore.ambient import SystemAmbient

    given = settings(data, config_file)
    if (file := projections().get(name)) is not None:
        when = "now" if _run(service_admin.begin_anew(given, name, file)) else "with the next start"
        typer.echo(f"{name}: is made anew from the log, {when}")
        return
    source = _run(service_admin.rebuild(given, SystemAmbient(), name, console(stderr=True)))
    typer.echo(f"{name}: made anew from {source}")


@projections_app.command(epilog="Example:  huahuo projections pause orders-to-crm --data ./data")
def pause(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Deliver nothing more to a follower. It keeps its place."""
    from huahuo.app.application import followers
    from huahuo.cli import service_admin
    from huahuo.eventstore.ambient import SystemAmbient

    _run(service_admin.pause(settings(data, config_file), SystemAmbient(), name, followers(), paused=True))
    typer.echo(f"{name}: paused")


@projections_app.command(epilog="Example:  huahuo projections resume orders-to-crm --data ./data")
def resume(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Let a paused follower go on where it stands."""
    from huahuo.app.application import followers
    from huahuo.cli import service_admin
    from huahuo.eventstore.ambient import SystemAmbient

    _run(service_admin.pause(settings(data, config_file), SystemAmbient(), name, followers(), paused=False))
    typer.echo(f"{name}: goes on")


@projections_app.command(epilog="Example:  huahuo projections retry orders-to-crm --data ./data")
def retry(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Deliver the dead letters of a follower once more, now or with the next start."""
    from huahuo.app.application import followers
    from huahuo.cli import service_admin
    from huahuo.eventstore.ambient import SystemAmbient

    count = _run(service_admin.retry(settings(data, config_file), SystemAmbient(), name, followers()))
    many = "1 dead letter is" if count == 1 else f"{count} dead letters are"
    typer.echo(f"{name}: {many} tried again")


@projections_app.command(epilog="Example:  huahuo projections place orders-to-crm --after 0 --data ./data")
def place(
    name: Name,
    after: Annotated[int, typer.Option(help="It goes on behind this position; 0 delivers everything again.")],
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """Give a follower that lost its place another one; the service must be stopped.

    Its dead letters are forgotten.
    """
    from huahuo.app.application import followers
    from huahuo.cli import service_admin
    from huahuo.eventstore.ambient import SystemAmbient

    _run(service_admin.place(settings(data, config_file), SystemAmbient(), name, followers(), after))
    typer.echo(f"{name}: goes on behind position {after}")


def _run[T](work: Coroutine[Any, Any, T]) -> T:
    from huahuo.eventstore.errors import EventStoreError

    try:
        return asyncio.run(work)
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error


key_app = program("key", "API keys: tokens for programs, with rights and an expiry.")


@key_app.command(epilog="Example:  huahuo key add ci --user alice --right codes --days 90 --data ./data")
def add(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    user: Annotated[str, typer.Option(help="The name of the user it acts for.")],
    right: Annotated[
        list[str] | None,
        typer.Option(
            help="read, write, codes, admin, or the name of an action. May be repeated.", show_default="read"
        ),
    ] = None,
    days: Annotated[int, typer.Option(help="Days until it expires.")] = 365,
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """Make a key and print it. It is not stored, so nothing can print it again."""
    from huahuo.app.process import run
    from huahuo.cli.accounts import add_key as body

    run(body(settings(data, config_file), name, user, right or ["read"], days))


@key_app.command("list", epilog="Example:  huahuo key list --data ./data")
def list_keys(data: Data = None, as_json: Json = False, config_file: ConfigFile = None) -> None:
    """Print every key: number, user, name, rights, expiry."""
    from huahuo.app.process import run
    from huahuo.cli.accounts import show_keys as body

    run(body(settings(data, config_file), as_json=as_json))


@key_app.command(epilog="Example:  huahuo key revoke 3 --data ./data")
def revoke(
    key_id: Annotated[int, typer.Argument(help="The number that `huahuo key list` shows.")],
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """End a key, and the connections that use it."""
    from huahuo.app.process import run
    from huahuo.cli.accounts import revoke_key as body

    run(body(settings(data, config_file), key_id))
    typer.echo(f"revoked {key_id}")


dictionary_app = program("dictionary", "The dictionary of the compressed protocol (huahuo.v1.zstd).")


@dictionary_app.callback()
def dictionary() -> None:
    """The dictionary of the compressed protocol (huahuo.v1.zstd)."""


@dictionary_app.command(epilog="Example:  huahuo dictionary train --data ./data --size 8192")
def train(
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="DATA/dictionaries/ID.zdict")
    ] = None,
    size: Annotated[int, typer.Option(min=256, max=1 << 20, help="Its size in bytes.")] = 4096,
    tries: Annotated[
        int | None,
        typer.Option(min=1, help="How many changes are tried.", show_default="8000, some ten seconds"),
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Train a dictionary for the events that this log holds. That takes some ten seconds.

    It will be public, so everything that fewer than five streams have in common is masked first.
    """
    from huahuo.app.application import standard
    from huahuo.dictionaries.zstd_dictionaries import DICTIONARY_FOLDER, SUFFIX, from_log
    from huahuo.eventstore.zstd_training import TRIES

    given = settings(data, config_file)
    seed = int.from_bytes(SystemAmbient().token_bytes(8), "big")
    made = asyncio.run(from_log(standard(), given.data, seed, size, tries or TRIES))
    path = out or given.data / DICTIONARY_FOLDER / f"{made.id}{SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.data)
    except OSError as error:
        raise HuahuoError(f"cannot write {path}: {error.strerror}") from None
    typer.echo(f"dictionary {made.id}: {len(made.data)} bytes in {path}")
    typer.echo(f"use it:  HUAHUO_DICTIONARY={path} huahuo serve")


config_app = program("config", "The settings: print them as a commented huahuo.toml, or check a file.")
config_app.info.no_args_is_help = False
config_app.info.invoke_without_command = True


@config_app.callback(epilog="Example:  huahuo config > huahuo.toml; huahuo config check huahuo.toml")
def show(context: typer.Context) -> None:
    """Print every setting with its meaning and default, commented out: a huahuo.toml to start from."""
    if context.invoked_subcommand is None:
        typer.echo(table().as_toml(), nl=False)


@config_app.command(epilog="Example:  huahuo config check huahuo.toml")
def check(
    file: Annotated[
        Path | None, typer.Argument(help="The file to check.", show_default="huahuo.toml")
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Check a file and the environment, and print the settings that differ from the defaults."""
    known = table()
    settings = known.load(environ=os.environ, file=file or config_file or HERE)
    changed = known.changed(settings)
    for name, value in changed.items():
        typer.echo(f"{name} = {value}")
    unknown = known.unknown_variables(os.environ)
    if unknown:
        raise ConfigError(f"no settings of this version: {', '.join(unknown)}")
    typer.echo(f"in order: {len(changed)} settings differ from the defaults")
