"""`huahuo backup`, `restore`, `salvage`, `compact`, `shred`: names, flags, help; no bodies."""

from pathlib import Path
from typing import Annotated

import typer

from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.options import ConfigFile, Fresh, Json, Look, finish, known, settings
from huahuo.terminal import seconds

_ambient = SystemAmbient()


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
    finish(
        maintenance.backup(
            settings(data, config_file),
            _ambient,
            target or to,
            with_keys=with_keys,
            keep=keep,
            as_json=as_json,
        )
    )


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

    finish(maintenance.restore(settings(data, config_file), _ambient, source, as_json=as_json))


def salvage(
    source: Annotated[Path, typer.Argument(help="The damaged directory; no service may run on it.")],
    data: Fresh = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a log of what can be read of a damaged one, and say what is lost. A backup is better."""
    from huahuo.cli import maintenance

    finish(maintenance.salvage(settings(data, config_file), _ambient, source, as_json=as_json))


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
    finish(
        maintenance.compact(
            settings(data, config_file), _ambient, older_than_s, keep, types, past, as_json=as_json
        )
    )


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


def add_to(program: typer.Typer) -> None:
    """Register the commands."""
    program.command(epilog="Example:  huahuo backup --data ./data /backups/2026-11-24")(backup)
    program.command(epilog="Example:  huahuo restore /backups/2026-11-24 --data ./restored")(restore)
    program.command(epilog="Example:  huahuo salvage ./data --data ./salvaged")(salvage)
    program.command(epilog="Example:  huahuo compact --data ./data --older-than 30d")(compact)
    program.command(epilog="Example:  huahuo shred 17 --data ./data")(shred)
