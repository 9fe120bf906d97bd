"""The bodies of `huahuo user` and `huahuo key`: users with passwords, and API keys for programs.

They work on the log if no service runs, else through the service.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import typer

from huahuo.app import credentials, service_port
from huahuo.app.config import Settings
from huahuo.app.credentials import token_source
from huahuo.build import BUILD
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.errors import EventStoreError, InUse
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.terminal import printable
from huahuo.transport.access.rights import RIGHTS
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientError, CommandError
from huahuo.users import api_keys
from huahuo.users.api_keys import KeyBook, KeyRefused, key_row, owner_named
from huahuo.users.book import UserBook, refuse_password
from huahuo.users.users import UserRefused, refuse_name

_TIMEOUT_S: Final = 30.0

type OnLog = Callable[[Log], Awaitable[Any]]


async def do_on_log(
    settings: Settings, on_log: OnLog, refused: type[Exception], action: str, **fields: Any
) -> Any:
    """Do it with `on_log`, or by the action of a service that has the log. `refused`: what `on_log` raises.

    Raises:
        HuahuoError: it was refused, or the log or the service cannot be used.
    """
    master_key, ambient = credentials.read_master_key(settings), SystemAmbient()
    try:
        log = await SqliteLog.open(settings.data, ambient=ambient, master_key=master_key, build=BUILD)
    except InUse:
        return await _through_service(settings, action, fields)
    except EventStoreError as error:
        raise HuahuoError(str(error)) from error
    try:
        return await on_log(log)
    except (refused, EventStoreError) as error:
        raise HuahuoError(str(error)) from error
    finally:
        await log.close()


async def _through_service(settings: Settings, action: str, fields: dict[str, Any]) -> Any:
    service = service_port.read_address(settings.data)
    if service is None:
        raise HuahuoError(
            f"{settings.data} is in use, but {service_port.SERVICE_FILE} does not say by which service"
        )
    source = token_source(None, settings, SystemAmbient())
    try:
        async with (
            Client(service.url, get_token=source, language="en") as client,
            asyncio.timeout(_TIMEOUT_S),
        ):
            return await client.send(action, **fields)
    except CommandError as error:
        raise HuahuoError(error.details or str(error)) from error  # in the words that `on_log` raises
    except (ClientError, TimeoutError) as error:
        raise HuahuoError(str(error) or f"no answer from the service at {service.url}") from error


_BY_COMMAND: Final = "huahuo user"


async def add_user(settings: Settings, name: str, password: str, *, is_admin: bool) -> None:
    """Add a user.

    Raises:
        HuahuoError: the name or the password is refused, or the log cannot be opened.
    """
    try:
        refuse_name(name)
        refuse_password(password)
    except UserRefused as refused:
        raise HuahuoError(str(refused)) from None
    credentials.ensure_keys(settings, SystemAmbient())

    async def on_log(book: UserBook) -> None:
        await book.add(name, password, is_admin=is_admin, principal=_BY_COMMAND)

    await _do(settings, on_log, "add_user", name=name, password=password, is_admin=is_admin)


async def change_user(settings: Settings, action: str, name: str, **fields: str) -> None:
    """Make a change of one user: the action of this name. Raises as `add`."""

    async def on_log(book: UserBook) -> None:
        match action:
            case "set_password":
                await book.set_password(name, fields["password"], principal=_BY_COMMAND)
            case "disable_user" | "enable_user":
                await book.set_disabled(name, disabled=action == "disable_user", principal=_BY_COMMAND)
            case _:
                await book.remove(name, principal=_BY_COMMAND)

    await _do(settings, on_log, action, name=name, **fields)


async def show_users(settings: Settings, *, as_json: bool) -> None:
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

    return await do_on_log(settings, on_users, UserRefused, action, **fields)


_KEYS_BY_COMMAND: Final = "huahuo key"


async def add_key(settings: Settings, name: str, user: str, rights: list[str], days: int) -> None:
    """Make a key for a user and print it, once. Raises HuahuoError: it is refused."""
    try:
        api_keys.refuse_key(name, days, rights)
    except KeyRefused as refused:
        raise HuahuoError(str(refused)) from None

    async def on_log(log: Log) -> dict[str, Any]:
        # The actions are those of the service, which knows its plug-ins, so only it can give rights to them.
        if unknown := [one for one in rights if one not in RIGHTS]:
            raise KeyRefused("invalid_field", f"start the service to give the right to {unknown[0]!r}")
        users = UserBook(log, SystemAmbient(), InlineExecutor())
        await users.catch_up()
        owner = owner_named(users, user)
        api_keys.refuse_rights(rights, actions=(), admin_actions=(), is_admin=owner.is_admin)
        made = await KeyBook(log, SystemAmbient()).add(owner, name, rights, days, by=_KEYS_BY_COMMAND)
        assert isinstance(made, tuple), "only a command id makes a duplicate"
        return {"key": made[1]}

    fields = {"name": name, "user": user, "rights": rights, "expires_in_days": days}
    found = await do_on_log(settings, on_log, KeyRefused, "add_key", **fields)
    typer.echo(found["key"])


async def show_keys(settings: Settings, *, as_json: bool) -> None:
    """Print every key. Raises HuahuoError: the log cannot be opened."""

    async def on_log(log: Log) -> dict[str, Any]:
        book = KeyBook(log, SystemAmbient())
        await book.catch_up()
        return {"data": [key_row(key) for key in book.state.all()]}

    found = await do_on_log(settings, on_log, KeyRefused, "list_keys", everybody=True)
    for key in found["data"]:
        if as_json:
            typer.echo(msgspec.json.encode(key).decode())
            continue
        texts = printable(key["username"]), printable(key["name"]), ",".join(key["rights"]), key["expires_at"]
        typer.echo("\t".join((str(key["key_id"]), *texts)))


async def revoke_key(settings: Settings, key_id: int) -> None:
    """End a key and its connections. Raises HuahuoError: there is none."""

    async def on_log(log: Log) -> None:
        await KeyBook(log, SystemAmbient()).revoke(key_id, by=_KEYS_BY_COMMAND)

    await do_on_log(settings, on_log, KeyRefused, "revoke_key", key_id=key_id)
