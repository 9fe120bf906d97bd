"""The bodies of `huahuo user erase` and `huahuo user export`."""

import os
import zipfile
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import typer

from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.principal import UserId, user_id_of
from huahuo.app import keys
from huahuo.app.config import Settings
from huahuo.app.plugins import standard
from huahuo.app.wiring import App
from huahuo.audit.bodies import must_be_original
from huahuo.audit.place import looking
from huahuo.audit.record import ask_service, principal, writing
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import Ambient, SystemAmbient
from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.port import Log
from huahuo.terminal import printable
from huahuo.users.book import UserBook
from huahuo.users.users import User, UserRefused

ERASE_TIMEOUT_S: Final = 3600.0
_PAGE_EVENTS: Final = 256


async def erase(settings: Settings, name: str | None, user_id: str | None, *, as_json: bool) -> None:
    """Erase a user through the running service. If none runs, one is started here that does not listen.

    Raises:
        ConfigError: the directory is a copy, or no user is named. HuahuoError: it was refused.
    """
    must_be_original(settings)
    if (name is None) == (user_id is None):
        raise ConfigError("name one user: NAME, or --user-id for a user of another issuer's tokens")
    async with writing(settings) as log:
        runs = log is None
    if runs:
        fields = {"name": name} if name is not None else {"user_id": user_id}
        told: dict[str, Any] = await ask_service(settings, "erase_user", timeout_s=ERASE_TIMEOUT_S, **fields)
    else:
        keys.read(settings)
        app = App(settings, SystemAmbient(), plugins=standard(), listen=False)
        await app.start()
        try:
            told = msgspec.to_builtins(await app.storing.erase(user_id, name, principal()))
        except UserRefused as refused:
            raise HuahuoError(str(refused)) from None
        finally:
            await app.stop()
    _show(told, as_json=as_json)


async def export(
    settings: Settings, ambient: Ambient, name: str | None, user_id: str | None, target: Path, past: Past
) -> None:
    """Write a zip of all that is kept of a user, without secrets, to the new file `target`.

    Raises:
        ConfigError: there is no log, or no such user. HuahuoError: it cannot be read.
    """
    if (name is None) == (user_id is None):
        raise ConfigError("name one user: NAME, or --user-id for a user of another issuer's tokens")
    async with looking(settings, "user export", {"user": name or user_id}) as place:
        log = place.log
        account = None if name is None else await _account(log, ambient, name)
        found: UserId | None = user_id_of(user_id) if account is None else account.user_id
        if found is None:
            raise ConfigError(f"there is no user {name or user_id!r}")
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            about = {"user_id": found, "account": None if account is None else msgspec.to_builtins(account)}
            archive.writestr("user.json", msgspec.json.encode(about))
            archive.writestr("events.jsonl", await _events(log, found, past))
            async for path, content in past.belongings(cast("Log", log), found):
                archive.writestr(path, content)
            typer.echo(f"wrote {len(archive.namelist())} files to {target}")


async def _account(log: LogReader, ambient: Ambient, name: str) -> User:
    book = UserBook(cast("Log", log), ambient, InlineExecutor())
    await book.catch_up()
    user = book.users.named(name)
    if user is None:
        raise ConfigError(f"there is no user {name!r}: give --user-id for a user of another issuer's tokens")
    return user


async def _events(log: LogReader, user_id: UserId, past: Past) -> bytes:
    """The user's events, one a line, as audits show them."""
    lines, stream, after = list[bytes](), f"user/{user_id}", 0
    while page := await log.read(stream, after, events_max=_PAGE_EVENTS):
        after = page[-1].seq
        for event in page:
            fields = past.shown(event.type, msgspec.json.decode(event.body))
            lines.append(msgspec.json.encode({"stream": stream, "seq": event.seq, **fields}))
    return b"\n".join([*lines, b""])


def _show(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        kept = {name: told[name] for name in ("user_id", "removed", "remains")}
        typer.echo(msgspec.json.encode(kept).decode())
        return
    removed = ", ".join(f"{count} {what}" for what, count in told["removed"].items() if count)
    typer.echo(printable(f"erased user {told['user_id']}: {removed or 'nothing was kept'}"))
    for one in told["remains"]:
        typer.echo(printable(f"    stays: {one['count']} {one['what']}: {one['why']}"))
