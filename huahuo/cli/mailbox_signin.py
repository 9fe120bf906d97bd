"""The body of `huahuo mailbox signin`: begin, show the code, wait until the user has entered it."""

import asyncio
from typing import Any, Final

import typer

from huahuo.actors.plugins.principal import UserId
from huahuo.app import keys, service_file
from huahuo.app.config import Settings
from huahuo.app.tokens import mint
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.terminal import printable
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import ClientError, CommandError

_POLL_S_MAX: Final = 5.0
_NO_CLIENT_ID: Final = "a client id is needed: give --client-id, or set client_id in [providers.NAME]"
_MOVES: Final = (
    "The mailbox is at {}, outside its provider's hosts. Signing in moves it back to {}.\n"
    "If you do not want that, stop here (Ctrl+C) and do not enter the code."
)
_MOVED: Final = "the mailbox was moved from {} back to {}"
_ENDS: Final = {
    "error": "the sign-in failed",
    "expired": "the code has expired: begin again",
    "denied": "the sign-in was declined",
}


def of_directory(given: Settings, user_id: UserId) -> tuple[str, str]:
    """The address of the service of a directory, and a token for a user.

    Raises:
        HuahuoError: no service runs on it, or it has no key.
    """
    service = service_file.read(given.data)
    if service is None:
        raise HuahuoError(f"no service runs on {given.data}: start it with `huahuo serve`")
    secret = keys.read_jwt_secret(given)
    return service.url, mint(secret, SystemAmbient(), user_id=user_id, username=f"user {user_id}")


async def signin(url: str, token: str, fields: dict[str, Any]) -> None:
    """Begin, print the code, and wait until it was entered.

    Raises:
        HuahuoError: it was not, or the service refused.
    """
    try:
        async with Client(url, token=token, language="en") as client:
            reply = await client.send("signin_email", **fields)
            typer.echo(
                f"Open {printable(reply['verification_uri'])} and enter {printable(reply['user_code'])}"
                f" within {round(reply['expires_in_s'] / 60)} minutes."
            )
            if moves := reply.get("moves"):
                typer.echo(_MOVES.format(printable(moves["from"]), printable(moves["to"])))
            while reply["state"] == "pending":
                await asyncio.sleep(min(reply["interval_s"], _POLL_S_MAX))
                reply = await client.send("get_signin", email=fields["email"])
    except CommandError as error:
        if "client_id" in error.details and "client_id" not in fields:
            raise HuahuoError(_NO_CLIENT_ID) from error
        raise HuahuoError(str(error)) from error
    except ClientError as error:
        raise HuahuoError(str(error)) from error
    if reply["state"] != "success":
        details = f": {printable(reply['details'])}" if reply.get("details") else ""
        raise HuahuoError(f"{_ENDS[reply['state']]}{details}")
    typer.echo(f"signed in: {printable(fields['email'])}")
    if moves := reply.get("moves"):
        typer.echo(_MOVED.format(printable(moves["from"]), printable(moves["to"])))
