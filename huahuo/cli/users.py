"""The bodies of `huahuo user`: on the log if no service runs, else through the service."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import typer

from huahuo.app import keys
from huahuo.app.config import Settings
from huahuo.cli.on_log import do
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.port import Log
from huahuo.terminal import printable
from huahuo.users.book import UserBook
from huahuo.users.passwords import refuse_password
from huahuo.users.users import UserRefused, refuse_name

_WHO: Final = "huahuo user"


async def add(settings: Settings, name: str, password: str, *, is_admin: bool) -> None:
    """Add a user.

    Raises:
        HuahuoError: the name or the password is refused, or the log cannot be opened.
    """
    try:
        refuse_name(name)
        refuse_password(password)
    except UserRefused as refused:
        raise HuahuoError(str(refused)) from None
    keys.ensure(settings, SystemAmbient())

    async def on_log(book: UserBook) -> None:
        await book.add(name, password, is_admin=is_admin, principal=_WHO)

    await _do(settings, on_log, "add_user", name=name, password=password, is_admin=is_admin)


async def change(settings: Settings, action: str, name: str, **fields: str) -> None:
    """Make a change of one user: the action of this name. Raises as `add`."""

    async def on_log(book: UserBook) -> None:
        match action:
            case "set_password":
                await book.set_password(name, fields["password"], principal=_WHO)
            case "disable_user" | "enable_user":
                await book.set_disabled(name, disabled=action == "disable_user", principal=_WHO)
            case _:
                await book.remove(name, principal=_WHO)

    await _do(settings, on_log, action, name=name, **fields)


async def show(settings: Settings, *, as_json: bool) -> None:
    """Print every user. Raises HuahuoError as `add`."""

    async def on_log(book: UserBook) -> dict[str, Any]:
        return {"data": msgspec.to_builtins(book.users.all())}

    found = await _do(settings, on_log, "list_users")
    if not found["data"]:
        typer.echo("no users: make one by `huahuo user add NAME --admin`", err=True)
    for user in found["data"]:
        if as_json:
            typer.echo(msgspec.json.encode(user).decode())
            continue
        marks = [
            word for word, there in (("admin", user["is_admin"]), ("disabled", user["disabled"])) if there
        ]
        typer.echo("\t".join([str(user["user_id"]), printable(user["name"]), " ".join(marks)]).rstrip())


async def _do(
    settings: Settings, on_log: Callable[[UserBook], Awaitable[Any]], action: str, **fields: Any
) -> Any:
    async def on_users(log: Log) -> Any:
        book = UserBook(log, SystemAmbient(), InlineExecutor())
        await book.catch_up()
        return await on_log(book)

    return await do(settings, on_users, UserRefused, action, **fields)
