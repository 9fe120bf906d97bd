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
from huahuo.audit.audited_log import do
from huahuo.cli import maintenance
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.executor import InlineExecutor
from huahuo.options import Json, command, known, program, run
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


def _done(
    settings: Settings, on_log: Callable[[StoreLog], Awaitable[dict[str, Any]]], action: str, **fields: Any
) -> dict[str, Any]:
    """Do it on the log, or by the action of a service that has it. Raises HuahuoError: it was refused."""
    try:
        return run(do(settings, on_log, action, timeout_s=_TIMEOUT_S, **fields))
    except ChangeRefused as refused:
        raise HuahuoError(str(refused)) from None
    except HuahuoError as error:
        if isinstance(cause := error.__cause__, CommandError):
            raise HuahuoError(cause.details or str(cause)) from error  # in the words that `on_log` raises
        raise


def _change(
    settings: Settings, action: str, change: Callable[..., Awaitable[object]], name: str, **fields: Any
) -> None:
    async def on_log(log: StoreLog) -> dict[str, Any]:
        await change(await _users(log), name, **fields, principal=_BY)
        return {}

    _done(settings, on_log, action, name=name, **fields)


async def _users(log: StoreLog) -> UserBook:
    book = UserBook(log, SystemAmbient(), InlineExecutor())
    await book.catch_up()
    return book


_BY: Final = "huahuo user"


@command(user_app, "huahuo user add alice --admin --data ./data")
def add(
    given: Settings,
    name: Name,
    admin: Annotated[bool, typer.Option("--admin", help="May read and change everything.")] = False,
    password_stdin: PasswordStdin = False,
) -> None:
    """Add a user. The data directory is made if there is none."""
    password = _password(from_stdin=password_stdin)
    try:
        refuse_name(name)
        refuse_password(password)
    except ChangeRefused as refused:
        raise HuahuoError(str(refused)) from None
    credentials.ensure_keys(given, SystemAmbient())
    _change(given, "add_user", UserBook.add, name, password=password, is_admin=admin)
    typer.echo(f"added {name}")


@command(user_app, "huahuo user list --data ./data", "list")
def show(given: Settings, as_json: Json = False) -> None:
    """Print every user: number, name, whether an administrator, whether disabled."""

    async def on_log(log: StoreLog) -> dict[str, Any]:
        return {"data": msgspec.to_builtins((await _users(log)).users.all())}

    found = _done(given, on_log, "list_users")["data"]
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


@command(user_app, "huahuo user passwd alice --data ./data")
def passwd(given: Settings, name: Name, password_stdin: PasswordStdin = False) -> None:
    """Give a user another password; it ends all sessions."""
    password = _password(from_stdin=password_stdin)
    _change(given, "set_password", UserBook.set_password, name, password=password)
    typer.echo(f"changed the password of {name}")


@command(user_app, "huahuo user disable alice --data ./data")
def disable(given: Settings, name: Name) -> None:
    """Let a user sign in no more; it ends all sessions."""
    change = partial(UserBook.set_disabled, disabled=True)
    _change(given, "disable_user", change, name)
    typer.echo(f"disabled {name}")


@command(user_app, "huahuo user enable alice --data ./data")
def enable(given: Settings, name: Name) -> None:
    """Let a disabled user sign in again."""
    change = partial(UserBook.set_disabled, disabled=False)
    _change(given, "enable_user", change, name)
    typer.echo(f"enabled {name}")


@command(user_app, "huahuo user rm alice --data ./data")
def rm(given: Settings, name: Name) -> None:
    """Remove a user and the password. The user's mailboxes stay."""
    _change(given, "remove_user", UserBook.remove, name)
    typer.echo(f"removed {name}")


MaybeName = Annotated[str | None, typer.Argument(help="The user's name.")]
UserId = Annotated[
    str | None, typer.Option("--user-id", help="Instead of a name: a user of another issuer's tokens.")
]


@command(user_app, "huahuo user erase alice --yes --data ./data")
def erase(
    given: Settings,
    name: MaybeName = None,
    user_id: UserId = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask. It cannot be undone.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a user with everything that tells of it, and list what remains and why. Cannot be undone."""
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("this cannot be undone: give --yes")
        typer.confirm(f"Erase {name or user_id} for good?", abort=True)
    run(maintenance.erase_user(given, name, user_id, as_json=as_json))


@command(user_app, "huahuo user export alice alice.zip --data ./data")
def export(
    given: Settings,
    name: MaybeName = None,
    target: Annotated[Path | None, typer.Argument(help="The zip to write; default: NAME.zip.")] = None,
    user_id: UserId = None,
) -> None:
    """Write a zip with all events and mails of a user, without secrets. Recorded in the audit."""
    if user_id is not None and target is None and name is not None:
        file, name = Path(name), None  # with --user-id, the only argument is the file
    else:
        file = target or Path(f"{name or user_id}.zip")
    if file.exists():
        raise ConfigError(f"{file} is there already: name another file")
    run(maintenance.export_user(given, SystemAmbient(), name, user_id, file, known()))


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask for the password: give --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


key_app = program("key", "")
_KEYS_BY: Final = "huahuo key"


@command(key_app, "huahuo key add ci --user alice --right codes --days 90 --data ./data", "add")
def add_key(
    given: Settings,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    user: Annotated[str, typer.Option(help="The name of the user it acts for.")],
    right: Annotated[
        list[str] | None,
        typer.Option(
            help="read, write, codes, admin, or the name of an action. May be repeated.", show_default="read"
        ),
    ] = None,
    days: Annotated[int, typer.Option(help="Days until it expires.")] = 365,
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
    typer.echo(_done(given, on_log, "add_key", **fields)["key"])


@command(key_app, "huahuo key list --data ./data", "list")
def show_keys(given: Settings, as_json: Json = False) -> None:
    """Print every key: number, user, name, rights, expiry."""

    async def on_log(log: StoreLog) -> dict[str, Any]:
        book = KeyBook(log, SystemAmbient())
        await book.catch_up()
        return {"data": [key_row(key) for key in book.state.all()]}

    for key in _done(given, on_log, "list_keys", everybody=True)["data"]:
        if as_json:
            show_json(key)
            continue
        texts = printable(key["username"]), printable(key["name"]), ",".join(key["rights"]), key["expires_at"]
        typer.echo("\t".join((str(key["key_id"]), *texts)))


@command(key_app, "huahuo key revoke 3 --data ./data", "revoke")
def revoke_key(
    given: Settings, key_id: Annotated[int, typer.Argument(help="The number that `huahuo key list` shows.")]
) -> None:
    """End a key, and the connections that use it."""

    async def on_log(log: StoreLog) -> dict[str, Any]:
        await KeyBook(log, SystemAmbient()).revoke(key_id, by=_KEYS_BY)
        return {}

    _done(given, on_log, "revoke_key", key_id=key_id)
    typer.echo(f"revoked {key_id}")
