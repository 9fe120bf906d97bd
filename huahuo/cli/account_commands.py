"""`huahuo user` and `huahuo mailbox`: names, flags and help.

`huahuo user`: the users who sign in with a name and a password, with or without a running service.
`huahuo mailbox`: one mailbox of a running service.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from huahuo.errors import ConfigError
from huahuo.options import ConfigFile, Data, Json, known, program, settings, token_option

user_app = program("user", "Users who sign in with a name and a password.")

Name = Annotated[str, typer.Argument(help="The user's name.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
]


@user_app.command(epilog="Example:  huahuo user add alice --admin --data ./data")
def add(
    name: Name,
    data: Data = None,
    admin: Annotated[bool, typer.Option("--admin", help="May read and change everything.")] = False,
    password_stdin: PasswordStdin = False,
    config_file: ConfigFile = None,
) -> None:
    """Add a user. The data directory is made if there is none."""
    from huahuo.app.process import run
    from huahuo.cli.accounts import add_user as body

    given = settings(data, config_file)
    run(body(given, name, _password(from_stdin=password_stdin), is_admin=admin))
    typer.echo(f"added {name}")


@user_app.command("list", epilog="Example:  huahuo user list --data ./data")
def show(data: Data = None, as_json: Json = False, config_file: ConfigFile = None) -> None:
    """Print every user: number, name, whether an administrator, whether disabled."""
    from huahuo.app.process import run
    from huahuo.cli.accounts import show_users as body

    run(body(settings(data, config_file), as_json=as_json))


@user_app.command(epilog="Example:  huahuo user passwd alice --data ./data")
def passwd(
    name: Name, data: Data = None, password_stdin: PasswordStdin = False, config_file: ConfigFile = None
) -> None:
    """Give a user another password; it ends all sessions."""
    from huahuo.app.process import run
    from huahuo.cli.accounts import change_user

    given = settings(data, config_file)
    run(change_user(given, "set_password", name, password=_password(from_stdin=password_stdin)))
    typer.echo(f"changed the password of {name}")


@user_app.command(epilog="Example:  huahuo user disable alice --data ./data")
def disable(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Let a user sign in no more; it ends all sessions."""
    from huahuo.app.process import run
    from huahuo.cli.accounts import change_user

    run(change_user(settings(data, config_file), "disable_user", name))
    typer.echo(f"disabled {name}")


@user_app.command(epilog="Example:  huahuo user enable alice --data ./data")
def enable(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Let a disabled user sign in again."""
    from huahuo.app.process import run
    from huahuo.cli.accounts import change_user

    run(change_user(settings(data, config_file), "enable_user", name))
    typer.echo(f"enabled {name}")


@user_app.command(epilog="Example:  huahuo user rm alice --data ./data")
def rm(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Remove a user and the password. The user's mailboxes stay."""
    from huahuo.app.process import run
    from huahuo.cli.accounts import change_user

    run(change_user(settings(data, config_file), "remove_user", name))
    typer.echo(f"removed {name}")


MaybeName = Annotated[str | None, typer.Argument(help="The user's name.")]
UserId = Annotated[
    str | None, typer.Option("--user-id", help="Instead of a name: a user of another issuer's tokens.")
]


@user_app.command(epilog="Example:  huahuo user erase alice --yes --data ./data")
def erase(
    name: MaybeName = None,
    user_id: UserId = None,
    data: Data = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. It cannot be undone.")] = False,
    as_json: Json = False,
    config_file: ConfigFile = None,
) -> None:
    """Remove a user with everything that tells of it, and list what remains and why. Cannot be undone."""
    from huahuo.app.process import run
    from huahuo.cli.maintenance import erase_user as body

    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("this cannot be undone: give --yes")
        typer.confirm(f"Erase {name or user_id} for good?", abort=True)
    run(body(settings(data, config_file), name, user_id, as_json=as_json))


@user_app.command(epilog="Example:  huahuo user export alice alice.zip --data ./data")
def export(
    name: MaybeName = None,
    target: Annotated[Path | None, typer.Argument(help="The zip to write; default: NAME.zip.")] = None,
    user_id: UserId = None,
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """Write a zip with all events and mails of a user, without secrets. Recorded in the audit."""
    from huahuo.app.process import run
    from huahuo.cli.maintenance import export_user as body
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


mailbox_app = program("mailbox", "One mailbox of a running service.")


@mailbox_app.command(epilog="Example:  huahuo mailbox signin alice@outlook.com --data ./data --user-id 42")
def signin(
    address: Annotated[str, typer.Argument(help="The mailbox; it is added if the user does not have it.")],
    data: Annotated[
        Path | None, typer.Option(help="Directory of the running service.", show_default="huahuo-data")
    ] = None,
    user_id: Annotated[str | None, typer.Option(help="Whose mailbox it is: a number, or a text.")] = None,
    url: Annotated[str | None, typer.Option(help="With a token: where the service listens.")] = None,
    token: Annotated[
        str | None, token_option("Sign-in token of the mailbox's user.", unless="user_id")
    ] = None,
    mail_type: Annotated[
        str, typer.Option(help="The kind of a new mailbox, a name of [providers].")
    ] = "outlook",
    client_id: Annotated[
        str, typer.Option(help="The application's id, if neither mailbox nor provider has one.")
    ] = "",
    config_file: ConfigFile = None,
) -> None:
    """Sign a mailbox in with a code that you enter in a browser, on any device."""
    from huahuo.app.credentials import user_id_in
    from huahuo.app.process import run
    from huahuo.cli.tail import of_directory
    from huahuo.cli.tail import signin as body

    if token is not None and url is not None:
        where, source = url, token
    elif user_id is not None:
        where, source = of_directory(settings(data, config_file), user_id_in(user_id))
    else:
        raise ConfigError("give --user-id (with --data), or --url and --token")
    fields: dict[str, Any] = {"email": address, "mail_type": mail_type}
    if client_id:
        fields["client_id"] = client_id
    run(body(where, source, fields))
