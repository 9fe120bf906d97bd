"""The command line: names, flags and help. The body of each command is in a module of its own."""

import asyncio
import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from huahuo.cli import audit, cluster, config, dictionary, key, mailbox, projections, replay, user, using
from huahuo.cli.consoles import console, import_structlog_without_rich
from huahuo.errors import HuahuoError
from huahuo.options import (
    EXIT_NOTHING,
    EXIT_UNUSABLE,
    MISUSE,
    ConfigFile,
    Data,
    Json,
    code_of_failure,
    program,
    said_of,
    settings,
)

_WHAT = "Event-sourced entities, streamed to clients that may vanish and return. Without --app: mail."
app = program("huahuo", _WHAT)
app.add_typer(replay.app)
app.add_typer(projections.app)
app.add_typer(dictionary.app)
app.add_typer(config.app)
app.add_typer(mailbox.app)
app.add_typer(user.app)
app.add_typer(key.app)
app.add_typer(cluster.app)


def main() -> None:
    """The `huahuo` program. A mistake of the user ends as one line on stderr, not as a traceback."""
    try:
        sys.exit(app(prog_name="huahuo", standalone_mode=False))
    except MISUSE as error:
        text, where = said_of(error)
        if where is None:
            typer.echo(text, err=True)
        else:
            _say(f"{text} See `{where} --help`" if text.endswith("?") else f"{text}: see `{where} --help`")
        sys.exit(EXIT_UNUSABLE)
    except HuahuoError as error:
        _say(str(error))
        sys.exit(code_of_failure(error))
    except typer.Abort:
        _say("aborted")
        sys.exit(EXIT_NOTHING)
    except KeyboardInterrupt:
        sys.exit(130)


def _say(text: str) -> None:
    console(stderr=True).print(f"[red]huahuo:[/red] {_plain(text)}", soft_wrap=True)


def _plain(text: str) -> str:
    """Escape `text`, so that rich does not read it as markup."""
    return text.replace("[", r"\[")


@app.callback(invoke_without_command=True, help=_WHAT)
def huahuo(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """The program without a command: its version or its help."""
    if version:
        from huahuo.build import BUILD

        typer.echo(BUILD)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_UNUSABLE)


@app.command(epilog="Example:  huahuo serve --data ./data --port 8765")
def serve(
    data: Data = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(help="TCP port; 0 takes a free one.", show_default="8765")
    ] = None,
    classic_ui: Annotated[
        Path | None,
        typer.Option(help="A built copy of FireMail's front end, shown at /; the console is at /console/."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            help="Processes that serve WebSockets, besides the one with the log. 1: that one serves them.",
            show_default="1",
        ),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(help="postgres:// or nats:// address of the log that several nodes share."),
    ] = None,
    node: Annotated[
        str | None, typer.Option(help="Name of this node.", show_default="made once, kept in the directory")
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(help="URL at which other nodes reach this one.", show_default="where it listens"),
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Run the service until it is told to stop (a signal drains it; a second Ctrl-C or SIGTERM ends it)."""
    gc.disable()  # what is imported stays, and one collection of it takes a twentieth of the start
    import_structlog_without_rich()
    from huahuo.app.hiding import hide_password
    from huahuo.app.loops import own_the_process, run
    from huahuo.app.plugins import chosen, standard
    from huahuo.embedding.foreground import leave
    from huahuo.embedding.foreground import serve as body

    hide_password(log)
    shown = None if classic_ui is None else str(classic_ui)
    given = settings(
        data,
        config_file,
        host=host,
        port=port,
        classic_ui=shown,
        workers=workers,
        log=log,
        node=node,
        advertise=advertise,
    )
    plugins = standard()
    own_the_process()
    gc.enable()
    run(body(given, plugins, chosen().runs_as, chosen().asked))
    leave()


@app.command(epilog="Example:  huahuo token --data ./data --user-id 42 --username alice --groups ops,dev")
def token(
    user_id: Annotated[str, typer.Option(help="The user's id: a number, or a text.")],
    username: Annotated[str, typer.Option(help="The user's name; without it the id.")] = "",
    data: Data = None,
    admin: Annotated[bool, typer.Option("--admin", help="May read and publish everywhere.")] = False,
    groups: Annotated[str, typer.Option(help="Groups the user may read, separated by commas.")] = "",
    ttl: Annotated[int, typer.Option(min=1, help="Seconds until it expires.")] = 3600,
    config_file: ConfigFile = None,
) -> None:
    """Print a sign-in token (a JWT) on standard output."""
    from huahuo.app import keys
    from huahuo.app.tokens import mint, user_id_in
    from huahuo.eventstore.ambient import SystemAmbient

    given = settings(data, config_file)
    names = tuple(name.strip() for name in groups.split(",") if name.strip())
    typer.echo(
        mint(
            keys.read_jwt_secret(given),
            SystemAmbient(),
            user_id=user_id_in(user_id),
            username=username or user_id,
            admin=admin,
            groups=names,
            ttl_s=ttl,
        )
    )


using.add_to(app)  # here: the help lists commands in the order in which they are added


@app.command(epilog="Example:  huahuo doctor --data ./data")
def doctor(
    data: Data = None,
    as_json: Json = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Also judge the invariants that the log's events alone can show."),
    ] = False,
    config_file: ConfigFile = None,
) -> None:
    """Look over configuration, keys, log, clock and port; exit 1 if something is wrong."""
    from huahuo.app import logs
    from huahuo.cli.doctor import examine, show
    from huahuo.eventstore.ambient import SystemAmbient

    logs.configure("critical", as_json=False)  # the findings tell it
    given = settings(data, config_file)
    findings = asyncio.run(examine(given, SystemAmbient(), os.environ, check=check))
    show(findings, as_json=as_json, console=console())
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(EXIT_NOTHING)


@app.command("import-firemail", epilog="Example:  huahuo import-firemail huohuo_email.db --data ./data")
def import_firemail(
    database: Annotated[Path, typer.Argument(help="FireMail's SQLite file; it is only read.")],
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """Bring users, mailboxes and mails of FireMail into a data directory. It may be run again."""
    from huahuo.app.loops import run
    from huahuo.cli.import_firemail import import_firemail as body

    run(body(settings(data, config_file), database))


@app.command(epilog="Example:  huahuo demo --port 0")
def demo(
    port: Annotated[
        int | None,
        typer.Option(
            envvar="HUAHUO_PORT", help="TCP port of the service.", show_default="8765, or a free one"
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Keep the demo's data here.", show_default="a temporary directory")
    ] = None,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Three nodes over three NATS servers, and buttons to break them."),
    ] = False,
) -> None:
    """A local IMAP server with sample mail, the service, and a link to watch it in a browser."""
    from huahuo.app.loops import run

    if cluster:
        from huahuo.demo.cluster import cluster as body
    else:
        from huahuo.demo.demo import demo as body
    run(body(port=port, data=data, console=console()))


audit.add_to(app)  # behind what a newcomer looks for


if __name__ == "__main__":
    main()
