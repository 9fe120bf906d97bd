"""The command line: names, flags and help. The body of each command is in a module of its own."""

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from huahuo.errors import ConfigError, HuahuoError
from huahuo.options import (
    EXIT_NOTHING,
    EXIT_UNUSABLE,
    HERE,
    MISUSE,
    ConfigFile,
    Data,
    Fresh,
    Json,
    Look,
    code_of_failure,
    command,
    console,
    finish,
    import_structlog_without_rich,
    known,
    later,
    program,
    reader,
    run,
    said_of,
    settings,
    table,
    token_option,
)

if TYPE_CHECKING:
    from huahuo.app.config import Settings

Token = Annotated[str | None, token_option("Sign-in token; else made of --data's key.")]


_WHAT = "Event-sourced entities, streamed to clients that may vanish and return. Without --app: mail."
app = program("huahuo", _WHAT)

_ADMIN = "huahuo.cli.service_admin"
_ACCOUNTS = "huahuo.cli.accounts"
for name, text, home in (
    (
        "replay",
        "The log as a time-travel debugger: read-only, on a live directory, a copy or an export.",
        "huahuo.timetravel.commands:app",
    ),
    (
        "projections",
        "Tables of rows and followers: where they stand, and what to do about it.",
        f"{_ADMIN}:projections_app",
    ),
    ("mailbox", "One mailbox of a running service.", "huahuo.cli.tail:mailbox_app"),
    ("user", "Users who sign in with a name and a password.", f"{_ACCOUNTS}:user_app"),
    ("key", "API keys: tokens for programs, with rights and an expiry.", f"{_ACCOUNTS}:key_app"),
    ("cluster", "Several nodes over one log (`huahuo serve --log …`).", f"{_ADMIN}:cluster_app"),
    (
        "audit",
        "Who did what, when and why; and whether history is what was written.",
        "huahuo.audit.commands:app",
    ),
):
    app.add_typer(later(name, text, home))


dictionary_app = program("dictionary", "The dictionary of the compressed protocol (huahuo.v1.zstd).")


@dictionary_app.callback()
def dictionary() -> None:
    """The dictionary of the compressed protocol (huahuo.v1.zstd)."""


@command(dictionary_app, "huahuo dictionary train --data ./data --size 8192")
def train(
    given: "Settings",
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="DATA/dictionaries/ID.zdict")
    ] = None,
    size: Annotated[int, typer.Option(min=256, max=1 << 20, help="Its size in bytes.")] = 4096,
    tries: Annotated[
        int | None,
        typer.Option(min=1, help="How many changes are tried.", show_default="8000, some ten seconds"),
    ] = None,
) -> None:
    """Train a dictionary for the events that this log holds. That takes some ten seconds.

    It will be public, so everything that fewer than five streams have in common is masked first.
    """
    from huahuo.app.application import standard
    from huahuo.dictionaries.zstd_dictionaries import DICTIONARY_FOLDER, SUFFIX, from_log
    from huahuo.eventstore.ambient import SystemAmbient
    from huahuo.eventstore.zstd_training import TRIES

    seed = int.from_bytes(SystemAmbient().token_bytes(8), "big")
    made = run(from_log(standard(), given.data, seed, size, tries or TRIES))
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


app.add_typer(dictionary_app)
app.add_typer(config_app)


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
    from huahuo.app.application import chosen, standard
    from huahuo.app.hiding import hide_password
    from huahuo.app.process import own_the_process
    from huahuo.embedding.huahuo import leave
    from huahuo.embedding.huahuo import serve as body

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


@command(app, "huahuo token --data ./data --user-id 42 --username alice --groups ops,dev")
def token(
    given: "Settings",
    user_id: Annotated[str, typer.Option(help="The user's id: a number, or a text.")],
    username: Annotated[str, typer.Option(help="The user's name; without it the id.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="May read and publish everywhere.")] = False,
    groups: Annotated[str, typer.Option(help="Groups the user may read, separated by commas.")] = "",
    ttl: Annotated[int, typer.Option(min=1, help="Seconds until it expires.")] = 3600,
) -> None:
    """Print a sign-in token (a JWT) on standard output."""
    from huahuo.app import credentials
    from huahuo.app.credentials import mint, user_id_in
    from huahuo.eventstore.ambient import SystemAmbient

    names = tuple(name.strip() for name in groups.split(",") if name.strip())
    typer.echo(
        mint(
            credentials.read_jwt_secret(given),
            SystemAmbient(),
            user_id=user_id_in(user_id),
            username=username or user_id,
            admin=admin,
            groups=names,
            ttl_s=ttl,
        )
    )


@app.command(epilog="Example:  huahuo tail http://127.0.0.1:8765 user/42 --after 0 --data ./data")
def tail(
    url: Annotated[str, typer.Argument(help="Where the service listens, e.g. http://127.0.0.1:8765.")],
    stream: Annotated[str, typer.Argument(help="user/ID, group/NAME, system or (admins) log.")],
    after: Annotated[str, typer.Option(help="Start after this seq, or at: head, start, snapshot.")] = "head",
    token: Token = None,
    data: Annotated[
        Path | None, typer.Option(help="Sign in as an admin by this directory's key; --token goes first.")
    ] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    codes: Annotated[
        bool, typer.Option("--codes", help="Only verification codes: time, address and code.")
    ] = False,
    config_file: ConfigFile = None,
) -> None:
    """Follow a stream in the terminal; reconnects and resumes by itself."""
    from functools import partial

    from huahuo.app.application import settings as application_settings
    from huahuo.app.credentials import token_source
    from huahuo.app.service_port import way_on
    from huahuo.cli.tail import tail as body
    from huahuo.eventstore.ambient import SystemAmbient

    own = settings(data, config_file) if data or "data" in application_settings() else None
    source = token_source(token, own, SystemAmbient())
    hint = None if token or own is None else partial(way_on, url, data=own.data, ambient=SystemAmbient())
    run(
        body(
            url,
            stream,
            source,
            after,
            as_json=json_lines,
            codes=codes,
            console=console(),
            reader=reader(),
            way_on=hint,
        )
    )


@app.command(epilog="Example:  huahuo publish user/42 parcel_seen order_id=7 --data ./data")
def publish(
    stream: Annotated[str, typer.Argument(help="user/ID, group/NAME, system or an application's own.")],
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="The event's type.")],
    fields: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FIELD=VALUE]…",
            help="7, true and [1] are JSON, anything else is text, also 1.10. FIELD:=1.5 is JSON always.",
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where the service listens; else that of --data.")] = None,
    token: Token = None,
    data: Data = None,
    key: Annotated[str | None, typer.Option(help="Command id: a second try with it has no effect.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to try for.")] = 30.0,
    config_file: ConfigFile = None,
) -> None:
    """Publish one event; tries again while the service restarts, and prints STREAM SEQ."""
    from huahuo.cli.publish import publish as body

    own = settings(data, config_file) if not (url and token) else None
    at = body(stream, type_, fields or (), url=url, token=token, own=own, command_id=key, timeout_s=timeout)
    typer.echo(f"{at.stream} {at.seq}")


@app.command(epilog="Example:  huahuo types --app shop:app > src/huahuo-types.ts")
def types() -> None:
    """Print an application's events, commands and states as TypeScript, for the browser client."""
    from huahuo.cli.publish import types as body

    typer.echo(body())


@command(app, "huahuo clients --data ./data")
def clients(
    given: "Settings",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a client.")] = False,
) -> None:
    """List the clients of the running service, how far each has read, and how many are behind."""
    from huahuo.cli.service_admin import clients as body

    body(given, as_json=as_json)


@command(app, "huahuo revoke --data ./data --user-id 42")
def revoke(
    given: "Settings",
    user_id: Annotated[str | None, typer.Option(help="End all sessions of this user.")] = None,
    jti: Annotated[str | None, typer.Option(help="End the sessions of this one token.")] = None,
) -> None:
    """End a user's or a token's sessions, on the running service or in the log where none runs."""
    from huahuo.app.credentials import user_id_in
    from huahuo.cli.service_admin import revoke as body

    if (user_id is None) == (jti is None):
        raise ConfigError("give either --user-id or --jti")
    body(given, user_id=None if user_id is None else user_id_in(user_id), jti=jti)
    typer.echo("revoked")


@command(app, "huahuo doctor --data ./data")
def doctor(
    given: "Settings",
    as_json: Json = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Also judge the invariants that the log's events alone can show."),
    ] = False,
) -> None:
    """Look over configuration, keys, log, clock and port; exit 1 if something is wrong."""
    from huahuo.app import logs
    from huahuo.cli.doctor import examine, show
    from huahuo.eventstore.ambient import SystemAmbient

    logs.configure("critical", as_json=False)  # the findings tell it
    findings = run(examine(given, SystemAmbient(), os.environ, check=check))
    show(findings, as_json=as_json, console=console())
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(EXIT_NOTHING)


@command(app, "huahuo import-firemail huohuo_email.db --data ./data", "import-firemail")
def import_firemail(
    given: "Settings",
    database: Annotated[Path, typer.Argument(help="FireMail's SQLite file; it is only read.")],
) -> None:
    """Bring users, mailboxes and mails of FireMail into a data directory. It may be run again."""
    from huahuo.cli.import_firemail import import_firemail as body

    run(body(given, database))


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
    if cluster:
        from huahuo.demo.cluster import cluster as body
    else:
        from huahuo.demo.demo import demo as body
    run(body(port=port, data=data, console=console()))


@command(app, "huahuo backup --data ./data /backups/2026-11-24", data=Look)
def backup(
    given: "Settings",
    target: Annotated[
        str,
        typer.Argument(help="A directory that does not exist yet, or s3://BUCKET/PREFIX.", metavar="TARGET"),
    ] = "",
    to: Annotated[str, typer.Option("--to", help="The same, as an option.", metavar="TARGET")] = "",
    keep: Annotated[
        int, typer.Option(min=0, help="In an object store: how many backups to keep; 0 deletes none.")
    ] = 0,
    with_keys: Annotated[
        bool,
        typer.Option("--keys", help="Also the keys. Anyone with the backup can then read the passwords."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy the log, also while the service runs, and check the copy event by event."""
    from huahuo.cli import maintenance
    from huahuo.eventstore.ambient import SystemAmbient

    if bool(target) == bool(to):
        raise ConfigError(
            "name one place for the backup: a directory that does not exist yet, or s3://BUCKET/PREFIX"
        )
    finish(
        maintenance.backup(
            given,
            SystemAmbient(),
            target or to,
            with_keys=with_keys,
            keep=keep,
            as_json=as_json,
        )
    )


@command(app, "huahuo restore /backups/2026-11-24 --data ./restored", data=Fresh)
def restore(
    given: "Settings",
    source: Annotated[
        str,
        typer.Argument(
            help="A backup, a copy of a data directory, or s3://BUCKET/PREFIX for the newest backup there.",
            metavar="SOURCE",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Put a backup back under a new log id, so that clients are told `reset`. Refuses a damaged one."""
    from huahuo.cli import maintenance
    from huahuo.eventstore.ambient import SystemAmbient

    finish(maintenance.restore(given, SystemAmbient(), source, as_json=as_json))


@command(app, "huahuo salvage ./data --data ./salvaged", data=Fresh)
def salvage(
    given: "Settings",
    source: Annotated[Path, typer.Argument(help="The damaged directory; no service may run on it.")],
    as_json: Json = False,
) -> None:
    """Make a log of what can be read of a damaged one, and say what is lost. A backup is better."""
    from huahuo.cli import maintenance
    from huahuo.eventstore.ambient import SystemAmbient

    finish(maintenance.salvage(given, SystemAmbient(), source, as_json=as_json))


@command(app, "huahuo compact --data ./data --older-than 30d", data=Look)
def compact(
    given: "Settings",
    older_than: Annotated[str, typer.Option(help="Only events older than this: 30d, 12h, 0s.")] = "30d",
    keep: Annotated[int, typer.Option(min=1, help="Keep this many newest events of each entity.")] = 1,
    type_: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            help="Only events of this type; repeatable.",
            show_default="each of which only the newest counts",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prune old progress events. The chain stays whole: tombstones and receipts stay."""
    from huahuo.cli import maintenance
    from huahuo.eventstore.ambient import SystemAmbient
    from huahuo.terminal import seconds

    try:
        older_than_s = seconds(older_than)
    except ValueError as error:
        raise ConfigError(f"--older-than: {error}") from None
    past = known()
    types = tuple(type_ or sorted(past.prunable))
    finish(maintenance.compact(given, SystemAmbient(), older_than_s, keep, types, past, as_json=as_json))


@app.command(epilog="Example:  huahuo shred 17 --data ./data")
def shred(
    entity: Annotated[
        str,
        typer.Argument(metavar="ENTITY", help="Whose secrets: mailbox/17, or only the number of a mailbox."),
    ],
    data: Look = None,
    config_file: ConfigFile = None,
) -> None:
    """Destroy the key of an entity's stored secrets; a receipt stays in the log."""
    from huahuo.audit.commands import shred as body

    body(entity, data, config_file)


if __name__ == "__main__":
    main()
