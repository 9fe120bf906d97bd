"""`huahuo user`: the users who sign in with a name and a password. With or without a running service."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from huahuo.errors import ConfigError
from huahuo.options import ConfigFile, Data, Json, known, program, settings

app = program("user", "Users who sign in with a name and a password.")

Name = Annotated[str, typer.Argument(help="The user's name.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
]


@app.command(epilog="Example:  huahuo user add alice --admin --data ./data")
def add(
    name: Name,
    data: Data = None,
    admin: Annotated[bool, typer.Option("--admin", help="May read and change everything.")] = False,
    password_stdin: PasswordStdin = False,
    config_file: ConfigFile = None,
) -> None:
    """Add a user. The data directory is made if there is none."""
    from huahuo.app.loops import run
    from huahuo.cli.users import add as body

    given = settings(data, config_file)
    run(body(given, name, _password(from_stdin=password_stdin), is_admin=admin))
    typer.echo(f"added {name}")


@app.command("list", epilog="Example:  huahuo user list --data ./data")
def show(data: Data = None, as_json: Json = False, config_file: ConfigFile = None) -> None:
    """Print every user: number, name, whether an administrator, whether disabled."""
    from huahuo.app.loops import run
    from huahuo.cli.users import show as body

    run(body(settings(data, config_file), as_json=as_json))


@app.command(epilog="Example:  huahuo user passwd alice --data ./data")
def passwd(
    name: Name, data: Data = None, password_stdin: PasswordStdin = False, config_file: ConfigFile = None
) -> None:
    """Give a user another password; it ends all sessions."""
    from huahuo.app.loops import run
    from huahuo.cli.users import change

    given = settings(data, config_file)
    run(change(given, "set_password", name, password=_password(from_stdin=password_stdin)))
    typer.echo(f"changed the password of {name}")


@app.command(epilog="Example:  huahuo user disable alice --data ./data")
def disable(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Let a user sign in no more; it ends all sessions."""
    from huahuo.app.loops import run
    from huahuo.cli.users import change

    run(change(settings(data, config_file), "disable_user", name))
    typer.echo(f"disabled {name}")


@app.command(epilog="Example:  huahuo user enable alice --data ./data")
def enable(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Let a disabled user sign in again."""
    from huahuo.app.loops import run
    from huahuo.cli.users import change

    run(change(settings(data, config_file), "enable_user", name))
    typer.echo(f"enabled {name}")


@app.command(epilog="Example:  huahuo user rm alice --data ./data")
def rm(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Remove a user and the password. The user's mailboxes stay."""
    from huahuo.app.loops import run
    from huahuo.cli.users import change

    run(change(settings(data, config_file), "remove_user", name))
    typer.echo(f"removed {name}")


MaybeName = Annotated[str | None, typer.Argument(help="The user's name.")]
UserId = Annotated[
    str | None, typer.Option("--user-id", help="Instead of a name: a user of another issuer's tokens.")
]


@app.command(epilog="Example:  huahuo user erase alice --yes --data ./data")
def erase(
    name: MaybeName = None,
    user_id: UserId = None,
    data: Data = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. It cannot be undone.")] = False,
    as_json: Json = False,
    config_file: ConfigFile = None,
) -> None:
    """Remove a user with everything that tells of it, and list what remains and why. Cannot be undone."""
    from huahuo.app.loops import run
    from huahuo.cli.user_data import erase as body

    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("this cannot be undone: give --yes")
        typer.confirm(f"Erase {name or user_id} for good?", abort=True)
    run(body(settings(data, config_file), name, user_id, as_json=as_json))


@app.command(epilog="Example:  huahuo user export alice alice.zip --data ./data")
def export(
    name: MaybeName = None,
    target: Annotated[Path | None, typer.Argument(help="The zip to write; default: NAME.zip.")] = None,
    user_id: UserId = None,
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """Write a zip with all events and mails of a user, without secrets. Recorded in the audit."""
    from huahuo.app.loops import run
    from huahuo.cli.user_data import export as body
    from huahuo.eventstore.ambient import SystemAmbient

    if user_id is not None and target is None and name is not None:
        file, name = Path(name), None  # with --user-id, the only argument is the file
    else:
        file = target or Path(f"{name or user_id}.zip")
    if file.exists():
        raise ConfigError(f"{file} is there already: name another file")
    run(body(settings(data, config_file), SystemAmbient(), name, user_id, file, known()))


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask for the password: give --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
