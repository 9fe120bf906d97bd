"""The bodies of `huahuo key`: on the log if no service runs, else through the service."""

from typing import Any, Final

import msgspec
import typer

from huahuo.api_keys import keys
from huahuo.api_keys.actions import owner_named, shown
from huahuo.api_keys.book import KeyBook
from huahuo.api_keys.keys import KeyRefused
from huahuo.app.config import Settings
from huahuo.cli.on_log import do
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.port import Log
from huahuo.terminal import printable
from huahuo.transport.access.rights import RIGHTS
from huahuo.users.book import UserBook

_WHO: Final = "huahuo key"


async def add(settings: Settings, name: str, user: str, rights: list[str], days: int) -> None:
    """Make a key for a user and print it, once. Raises HuahuoError: it is refused."""
    try:
        keys.refuse_key(name, days, rights)
    except KeyRefused as refused:
        raise HuahuoError(str(refused)) from None

    async def on_log(log: Log) -> dict[str, Any]:
        # The actions are those of the service, which knows its plug-ins, so only it can give rights to them.
        if unknown := [one for one in rights if one not in RIGHTS]:
            raise KeyRefused("invalid_field", f"start the service to give the right to {unknown[0]!r}")
        users = UserBook(log, SystemAmbient(), InlineExecutor())
        await users.catch_up()
        owner = owner_named(users, user)
        keys.refuse_rights(rights, actions=(), admin_actions=(), is_admin=owner.is_admin)
        made = await KeyBook(log, SystemAmbient()).add(owner, name, rights, days, by=_WHO)
        assert isinstance(made, tuple), "only a command id makes a duplicate"
        return {"key": made[1]}

    fields = {"name": name, "user": user, "rights": rights, "expires_in_days": days}
    found = await do(settings, on_log, KeyRefused, "add_key", **fields)
    typer.echo(found["key"])


async def show(settings: Settings, *, as_json: bool) -> None:
    """Print every key. Raises HuahuoError: the log cannot be opened."""

    async def on_log(log: Log) -> dict[str, Any]:
        book = KeyBook(log, SystemAmbient())
        await book.catch_up()
        return {"data": [shown(key) for key in book.state.all()]}

    found = await do(settings, on_log, KeyRefused, "list_keys", everybody=True)
    for key in found["data"]:
        if as_json:
            typer.echo(msgspec.json.encode(key).decode())
            continue
        texts = printable(key["username"]), printable(key["name"]), ",".join(key["rights"]), key["expires_at"]
        typer.echo("\t".join((str(key["key_id"]), *texts)))


async def revoke(settings: Settings, key_id: int) -> None:
    """End a key and its connections. Raises HuahuoError: there is none."""

    async def on_log(log: Log) -> None:
        await KeyBook(log, SystemAmbient()).revoke(key_id, by=_WHO)

    await do(settings, on_log, KeyRefused, "revoke_key", key_id=key_id)
