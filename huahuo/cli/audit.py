"""`huahuo audit`, `backup`, `restore`, `salvage`, `compact`, `shred`: names, flags, help; no bodies."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.limits import PAGE_ROWS_MAX
from huahuo.options import (
    EXIT_NOTHING,
    ConfigFile,
    Fresh,
    Json,
    Look,
    code_of_answer,
    console,
    known,
    program,
    reader,
    settings,
)
from huahuo.terminal import moment_or_ago, seconds

app = program("audit", "Who did what, when and why; and whether history is what was written.")

Out = Annotated[Path | None, typer.Option(help="Write it to this file.")]
CheckpointFile = Annotated[Path | None, typer.Option("--checkpoint", help="A signed checkpoint.")]
Key = Annotated[
    str, typer.Option(help="Its public key, name+hash+key.", show_default="the directory's own key")
]
Owner = Annotated[
    str, typer.Argument(metavar="ENTITY", help="Whose secrets: mailbox/17, or only the number of a mailbox.")
]

_ambient = SystemAmbient()


@app.command(epilog="Example:  huahuo audit query --entity mailbox/17 --since -7d --text 'login refused'")
def query(
    data: Look = None,
    config_file: ConfigFile = None,
    stream: Annotated[str, typer.Option(help="user/42, mailbox/17, auth, audit, …")] = "",
    type_: Annotated[
        list[str] | None, typer.Option("--type", help="Of one of these types; repeatable.")
    ] = None,
    principal: Annotated[str, typer.Option(help="Who did it: user/42, service, …")] = "",
    entity: Annotated[str, typer.Option(help="What it is about: mailbox/17.")] = "",
    command: Annotated[str, typer.Option(help="The id of the command that caused it.")] = "",
    since: Annotated[str, typer.Option(help="From this time on: RFC 3339, or -5m, -2h, -7d.")] = "",
    until: Annotated[str, typer.Option(help="Up to this time.")] = "",
    text: Annotated[str, typer.Option(help="All these words in its fields; word* for a beginning.")] = "",
    after: Annotated[int, typer.Option(min=0, help="Go on behind this position.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_ROWS_MAX, help="Rows of a page.")] = 50,
    as_json: Json = False,
) -> None:
    """Find events by who, what, when and why, with full text, counts and facets."""
    from huahuo.audit import commands
    from huahuo.eventstore.audit.index import Where

    now_ms = _ambient.now_ms()
    try:
        where = Where(
            stream=stream,
            types=tuple(type_ or ()),
            principal=principal,
            entity=entity,
            command_id=command,
            since=moment_or_ago(since, now_ms),
            until=moment_or_ago(until, now_ms),
            text=text,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    _found(
        commands.query(
            settings(data, config_file), where, known(), reader(), after=after, limit=limit, as_json=as_json
        )
    )


@app.command(epilog="Example:  huahuo audit verify --checkpoint 2026-11.note --key 'huahuo/…+…+…'")
def verify(
    data: Look = None,
    config_file: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    key: Key = "",
    from_checkpoint: Annotated[
        bool, typer.Option("--from-checkpoint", help="Begin behind what the checkpoint sealed.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="How many processes check at one time.", show_default="one a core"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every event against the hash chain, and history against a signed checkpoint."""
    from huahuo.audit import commands

    _found(
        commands.verify(
            settings(data, config_file),
            checkpoint=checkpoint,
            key=key,
            from_checkpoint=from_checkpoint,
            processes=processes,
            as_json=as_json,
        )
    )


@app.command(epilog="Example:  huahuo audit checkpoint --out 2026-11.note   (and give it away)")
def checkpoint(
    data: Look = None, config_file: ConfigFile = None, out: Out = None, as_json: Json = False
) -> None:
    """Check the log and sign where it stands, so that a later rewrite can be shown."""
    from huahuo.audit import commands

    _done(commands.checkpoint(settings(data, config_file), _ambient, out=out, as_json=as_json))


@app.command(epilog="Example:  huahuo audit prove user/42#17 --out event.proof")
def prove(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="STREAM#SEQ, or @POSITION.")],
    data: Look = None,
    config_file: ConfigFile = None,
    checkpoint: CheckpointFile = None,
    key: Key = "",
    out: Out = None,
) -> None:
    """Write a proof (JSON) that an event is in the log, for somebody who trusts only the checkpoint."""
    from huahuo.audit import commands

    _found(
        commands.prove(settings(data, config_file), _ambient, event, checkpoint=checkpoint, key=key, out=out)
    )


@app.command(epilog="Example:  huahuo audit shred 17")
def shred(entity: Owner, data: Look = None, config_file: ConfigFile = None) -> None:
    """Destroy the key of an entity's stored secrets; a receipt stays in the log."""
    from huahuo.audit import commands

    owner = _entity(entity)
    missing = f"nothing about {owner} is in the log, so there is no key to destroy"
    _found(commands.shred(settings(data, config_file), _ambient, owner), "shredded", missing)


@app.command(epilog="Example:  huahuo audit serve --port 8001   (needs pip install 'huahuo[audit]')")
def serve(
    data: Look = None,
    config_file: ConfigFile = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")] = 8001,
) -> None:
    """Browse the audit index in Datasette, behind a sign-in link."""
    from huahuo.audit.commands import serve as body

    _done(body(settings(data, config_file), host=host, port=port))


def backup(
    target: Annotated[
        str,
        typer.Argument(help="A directory that does not exist yet, or s3://BUCKET/PREFIX.", metavar="TARGET"),
    ] = "",
    to: Annotated[str, typer.Option("--to", help="The same, as an option.", metavar="TARGET")] = "",
    keep: Annotated[
        int, typer.Option(min=0, help="In an object store: how many backups to keep; 0 deletes none.")
    ] = 0,
    data: Look = None,
    config_file: ConfigFile = None,
    with_keys: Annotated[
        bool,
        typer.Option("--keys", help="Also the keys. Anyone with the backup can then read the passwords."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy the log, also while the service runs, and check the copy event by event."""
    from huahuo.cli import maintenance

    if bool(target) == bool(to):
        raise ConfigError(
            "name one place for the backup: a directory that does not exist yet, or s3://BUCKET/PREFIX"
        )
    work = maintenance.backup(
        settings(data, config_file), _ambient, target or to, with_keys=with_keys, keep=keep, as_json=as_json
    )
    _done(work)


def restore(
    source: Annotated[
        str,
        typer.Argument(
            help="A backup, a copy of a data directory, or s3://BUCKET/PREFIX for the newest backup there.",
            metavar="SOURCE",
        ),
    ],
    data: Fresh = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Put a backup back under a new log id, so that clients are told `reset`. Refuses a damaged one."""
    from huahuo.cli import maintenance

    _done(maintenance.restore(settings(data, config_file), _ambient, source, as_json=as_json))


def salvage(
    source: Annotated[Path, typer.Argument(help="The damaged directory; no service may run on it.")],
    data: Fresh = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a log of what can be read of a damaged one, and say what is lost. A backup is better."""
    from huahuo.cli import maintenance

    _done(maintenance.salvage(settings(data, config_file), _ambient, source, as_json=as_json))


def compact(
    data: Look = None,
    config_file: ConfigFile = None,
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

    try:
        older_than_s = seconds(older_than)
    except ValueError as error:
        raise ConfigError(f"--older-than: {error}") from None
    past = known()
    types = tuple(type_ or sorted(past.prunable))
    _done(
        maintenance.compact(
            settings(data, config_file), _ambient, older_than_s, keep, types, past, as_json=as_json
        )
    )


def _entity(text: str) -> str:
    """The entity that the text names. A number alone is one of the kind that the plug-ins give a field to.

    Jobs do not count: they keep no secrets.
    """
    from huahuo.actors.domain.jobs import KIND as JOB

    kinds = [kind for kind in known().entity_fields.values() if kind != JOB]
    if "/" not in text and text.isdecimal() and len(kinds) == 1:
        return f"{kinds[0]}/{int(text)}"
    if "/" not in text:
        raise ConfigError(f"not the name of an entity, such as order/7: {text!r}")
    return text


def add_to(program: typer.Typer) -> None:
    """Register the group, and the commands that are at the top level."""
    program.add_typer(app)
    program.command(epilog="Example:  huahuo backup --data ./data /backups/2026-11-24")(backup)
    program.command(epilog="Example:  huahuo restore /backups/2026-11-24 --data ./restored")(restore)
    program.command(epilog="Example:  huahuo salvage ./data --data ./salvaged")(salvage)
    program.command(epilog="Example:  huahuo compact --data ./data --older-than 30d")(compact)
    program.command(epilog="Example:  huahuo shred 17 --data ./data")(shred)


def _found(work: Coroutine[Any, Any, bool], done: str = "", missing: str = "") -> None:
    if not _run(work):
        if missing:
            typer.echo(missing, err=True)
        raise typer.Exit(EXIT_NOTHING)
    if done:
        typer.echo(done)


def _done(work: Coroutine[Any, Any, None]) -> None:
    _run(work)


def _run[T](work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except (HuahuoError, EventStoreError) as error:
        _complain(str(error))
        raise typer.Exit(code_of_answer(error)) from None


def _complain(text: str) -> None:
    console(stderr=True).print(f"huahuo: {text}", markup=False, soft_wrap=True)
