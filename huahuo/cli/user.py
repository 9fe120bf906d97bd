"""`huahuo user`: the users who sign in with a name and a password. With or without a running service."""

import sys
from typing import Annotated

import typer

from huahuo.errors import ConfigError
from huahuo.options import ConfigFile, Data, Json, program, settings

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


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask for the password: give --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
