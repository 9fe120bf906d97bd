"""`huahuo projections`: names, flags and help. The bodies are in `standing`."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

from huahuo.cli.consoles import console
from huahuo.errors import HuahuoError
from huahuo.options import ConfigFile, Data, Json, program, settings

app = program("projections", "Tables of rows and followers: where they stand, and what to do about it.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `huahuo projections list` shows it.")]


@app.command("list", epilog="Example:  huahuo projections list --data ./data --app shop:app")
def list_(data: Data = None, config_file: ConfigFile = None, as_json: Json = False) -> None:
    """List tables and followers with cursor, lag, state and dead letters."""
    from huahuo.app.plugins import followers
    from huahuo.cli import standing

    _run(standing.show(settings(data, config_file), followers(), as_json=as_json, console=console()))


@app.command(epilog="Example:  huahuo projections rebuild orders --data ./data")
def rebuild(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Make the rows of a table, or an index of a plug-in, anew from the log.

    A running service does it itself, and goes on meanwhile; `timers` needs a service that is stopped.
    """
    from huahuo.app.plugins import projections
    from huahuo.cli import standing
    from huahuo.eventstore.ambient import SystemAmbient

    given = settings(data, config_file)
    if (file := projections().get(name)) is not None:
        when = "now" if _run(standing.begin_anew(given, name, file)) else "with the next start"
        typer.echo(f"{name}: is made anew from the log, {when}")
        return
    source = _run(standing.rebuild(given, SystemAmbient(), name, console(stderr=True)))
    typer.echo(f"{name}: made anew from {source}")


@app.command(epilog="Example:  huahuo projections pause orders-to-crm --data ./data")
def pause(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Deliver nothing more to a follower. It keeps its place."""
    from huahuo.app.plugins import followers
    from huahuo.cli import standing
    from huahuo.eventstore.ambient import SystemAmbient

    _run(standing.pause(settings(data, config_file), SystemAmbient(), name, followers(), paused=True))
    typer.echo(f"{name}: paused")


@app.command(epilog="Example:  huahuo projections resume orders-to-crm --data ./data")
def resume(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Let a paused follower go on where it stands."""
    from huahuo.app.plugins import followers
    from huahuo.cli import standing
    from huahuo.eventstore.ambient import SystemAmbient

    _run(standing.pause(settings(data, config_file), SystemAmbient(), name, followers(), paused=False))
    typer.echo(f"{name}: goes on")


@app.command(epilog="Example:  huahuo projections retry orders-to-crm --data ./data")
def retry(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Deliver the dead letters of a follower once more, now or with the next start."""
    from huahuo.app.plugins import followers
    from huahuo.cli import standing
    from huahuo.eventstore.ambient import SystemAmbient

    count = _run(standing.retry(settings(data, config_file), SystemAmbient(), name, followers()))
    many = "1 dead letter is" if count == 1 else f"{count} dead letters are"
    typer.echo(f"{name}: {many} tried again")


@app.command(epilog="Example:  huahuo projections place orders-to-crm --after 0 --data ./data")
def place(
    name: Name,
    after: Annotated[int, typer.Option(help="It goes on behind this position; 0 delivers everything again.")],
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """Give a follower that lost its place another one; the service must be stopped.

    Its dead letters are forgotten.
    """
    from huahuo.app.plugins import followers
    from huahuo.cli import standing
    from huahuo.eventstore.ambient import SystemAmbient

    _run(standing.place(settings(data, config_file), SystemAmbient(), name, followers(), after))
    typer.echo(f"{name}: goes on behind position {after}")


def _run[T](work: Coroutine[Any, Any, T]) -> T:
    from huahuo.eventstore.errors import EventStoreError

    try:
        return asyncio.run(work)
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
