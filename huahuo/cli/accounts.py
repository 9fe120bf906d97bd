"""`huahuo user` and `huahuo key`: users with passwords, and API keys for programs.

They work on the log if no service runs, else through the service.
"""

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from huahuo.app import credentials
from huahuo.app.config import Settings
from huahuo.audit.audited_log import ask_service, writing
from huahuo.cli import maintenance
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.executor import InlineExecutor
from huahuo.options import ConfigFile, Data, Json, known, program, run, settings
from huahuo.refusals import ChangeRefused
from huahuo.terminal import printable, show_json
from huahuo.transport.access.rights import RIGHTS
from huahuo.transport.client.model import CommandError
from huahuo.users import api_keys
from huahuo.users.api_keys import KeyBook, key_row, owner_named
from huahuo.users.book import UserBook, refuse_password
from huahuo.users.users import refuse_name

_TIMEOUT_S: Final = 30.0

user_app = program("user", "")  # its help, and that of `key_app`, is in huahuo/cli/main.py, which loads this

Name = Annotated[str, typer.Argument(help="The user's name.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
]


type OnLog = Callable[[StoreLog], Awaitable[Any]]


async def _do(settings: Settings, on_log: OnLog, action: str, **fields: Any) -> Any:
    """Do it with `on_log`, or by the action of a service that has the log.

    Raises:
        HuahuoError: it was refused, or the log or the service cannot be used.
    """
    async with writing(settings) as log:
        if log is not None:
            return await on_log(log)
    try:
        return await ask_service(settings, action, timeout_s=_TIMEOUT_S, **fields)
    except HuahuoError as error:
        if isinstance(refused := error.__cause__, CommandError):
            raise HuahuoError(refused.details or str(refused)) from error  # in the words that `on_log` raises
        raise


def _done(
    settings: Settings, on_log: Callable[[StoreLog], Awaitable[Any]], action: str, **fields: Any
) -> Any:
    try:
        return run(_do(settings, on_log, action, **fields))
    except ChangeRefused as refused:
        raise HuahuoError(str(refused)) from None


def _change(
    settings: Settings, action: str, change: Callable[..., Awaitable[object]], name: str, **fields: Any
) -> None:
    async def on_log(log: StoreLog) -> None:
        await change(await _users(log), name, **fields, principal=_BY)

    _done(settings, on_log, action, name=name, **fields)


async def _users(log: StoreLog) -> UserBook:
    book = UserBook(log, SystemAmbient(), InlineExecutor())
    await book.catch_up()
    return book


_BY: Final = "huahuo user"


@user_app.command(epilog="Example:  huahuo user add alice --admin --data ./data")
def add(
    name: Name,
    data: Data = None,
    admin: Annotated[bool, typer.Option("--admin", help="May read and change everything.")] = False,
    password_stdin: PasswordStdin = False,
    config_file: ConfigFile = None,
) -> None:
    """Add a user. The data directory is made if there is none."""
    given, password = settings(data, config_file), _password(from_stdin=password_stdin)
    try:
        refuse_name(name)
        refuse_password(password)
    except ChangeRefused as refused:
        raise HuahuoError(str(refused)) from None
    credentials.ensure_keys(given, SystemAmbient())
    _change(given, "add_user", UserBook.add, name, password=password, is_admin=admin)
    typer.echo(f"added {name}")


@user_app.command("list", epilog="Example:  huahuo user list --data ./data")
def show(data: Data = None, as_json: Json = False, config_file: ConfigFile = None) -> None:
    """Print every user: number, name, whether an administrator, whether disabled."""

    async def on_log(log: StoreLog) -> dict[str, Any]:
        return {"data": msgspec.to_builtins((await _users(log)).users.all())}

    found = _done(settings(data, config_file), on_log, "list_users")["data"]
    if not found:
        typer.echo("no users: make one by `huahuo user add NAME --admin`", err=True)
    for user in found:
        if as_json:
            show_json(user)
            continue
        marks = " ".join(
            word for word, there in (("admin", user["is_admin"]), ("disabled", user["disabled"])) if there
        )
        typer.echo("\t".join([str(user["user_id"]), printable(user["name"]), marks]).rstrip())


@user_app.command(epilog="Example:  huahuo user passwd alice --data ./data")
def passwd(
    name: Name, data: Data = None, password_stdin: PasswordStdin = False, config_file: ConfigFile = None
) -> None:
    """Give a user another password; it ends all sessions."""
    given, password = settings(data, config_file), _password(from_stdin=password_stdin)
    _change(given, "set_password", UserBook.set_password, name, password=password)
    typer.echo(f"changed the password of {name}")


@user_app.command(epilog="Example:  huahuo user disable alice --data ./data")
def disable(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Let a user sign in no more; it ends all sessions."""
    change = partial(UserBook.set_disabled, disabled=True)
    _change(settings(data, config_file), "disable_user", change, name)
    typer.echo(f"disabled {name}")


@user_app.command(epilog="Example:  huahuo user enable alice --data ./data")
def enable(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Let a disabled user sign in again."""
    change = partial(UserBook.set_disabled, disabled=False)
    _change(settings(data, config_file), "enable_user", change, name)
    typer.echo(f"enabled {name}")


@user_app.command(epilog="Example:  huahuo user rm alice --data ./data")
def rm(name: Name, data: Data = None, config_file: ConfigFile = None) -> None:
    """Remove a user and the password. The user's mailboxes stay."""
    _change(settings(data, config_file), "remove_user", UserBook.remove, name)
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
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("this cannot be undone: give --yes")
        typer.confirm(f"Erase {name or user_id} for good?", abort=True)
    run(maintenance.erase_user(settings(data, config_file), name, user_id, as_json=as_json))


@user_app.command(epilog="Example:  huahuo user export alice alice.zip --data ./data")
def export(
    name: MaybeName = None,
    target: Annotated[Path | None, typer.Argument(help="The zip to write; default: NAME.zip.")] = None,
    user_id: UserId = None,
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """Write a zip with all events and mails of a user, without secrets. Recorded in the audit."""
    if user_id is not None and target is None and name is not None:
        file, name = Path(name), None  # with --user-id, the only argument is the file
    else:
        file = target or Path(f"{name or user_id}.zip")
    if file.exists():
        raise ConfigError(f"{file} is there already: name another file")
    given = settings(data, config_file)
    run(maintenance.export_user(given, SystemAmbient(), name, user_id, file, known()))


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask for the password: give --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


key_app = program("key", "")
_KEYS_BY: Final = "huahuo key"


@key_app.command(
    "add", epilog="Example:  huahuo key add ci --user alice --right codes --days 90 --data ./data"
)
def add_key(
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
    rights = right or ["read"]

    async def on_log(log: StoreLog) -> dict[str, Any]:
        # The actions are those of the service, which knows its plug-ins, so only it can give rights to them.
        if unknown := [one for one in rights if one not in RIGHTS]:
            raise ChangeRefused("invalid_field", f"start the service to give the right to {unknown[0]!r}")
        owner = owner_named(await _users(log), user)
        api_keys.refuse_rights(rights, actions=(), admin_actions=(), is_admin=owner.is_admin)
        made = await KeyBook(log, SystemAmbient()).add(owner, name, rights, days, by=_KEYS_BY)
        assert isinstance(made, tuple), "only a command id makes a duplicate"
        return {"key": made[1]}

    try:
        api_keys.refuse_key(name, days, rights)
    except ChangeRefused as refused:
        raise HuahuoError(str(refused)) from None
    fields = {"name": name, "user": user, "rights": rights, "expires_in_days": days}
    typer.echo(_done(settings(data, config_file), on_log, "add_key", **fields)["key"])


@key_app.command("list", epilog="Example:  huahuo key list --data ./data")
def show_keys(data: Data = None, as_json: Json = False, config_file: ConfigFile = None) -> None:
    """Print every key: number, user, name, rights, expiry."""

    async def on_log(log: StoreLog) -> dict[str, Any]:
        book = KeyBook(log, SystemAmbient())
        await book.catch_up()
        return {"data": [key_row(key) for key in book.state.all()]}

    for key in _done(settings(data, config_file), on_log, "list_keys", everybody=True)["data"]:
        if as_json:
            show_json(key)
            continue
        texts = printable(key["username"]), printable(key["name"]), ",".join(key["rights"]), key["expires_at"]
        typer.echo("\t".join((str(key["key_id"]), *texts)))


@key_app.command("revoke", epilog="Example:  huahuo key revoke 3 --data ./data")
def revoke_key(
    key_id: Annotated[int, typer.Argument(help="The number that `huahuo key list` shows.")],
    data: Data = None,
    config_file: ConfigFile = None,
) -> None:
    """End a key, and the connections that use it."""

    async def on_log(log: StoreLog) -> None:
        await KeyBook(log, SystemAmbient()).revoke(key_id, by=_KEYS_BY)

    _done(settings(data, config_file), on_log, "revoke_key", key_id=key_id)
    typer.echo(f"revoked {key_id}")
