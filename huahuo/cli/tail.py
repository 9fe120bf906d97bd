"""`huahuo tail` and `huahuo mailbox signin`: commands that follow a running service as a client does.

`tail` follows a stream. On a terminal, bars of running checks are below and all other lines above them.
Otherwise it prints one line per event (`seq type json`, or with `--json` one JSON object), for pipes.
News of the connection goes to stderr. `signin` begins a sign-in, shows the code, and waits until the user
has entered it.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.text import Text

from huahuo.actors.plugins.calls import UserId
from huahuo.actors.plugins.past import AS_STORED, Reader
from huahuo.app import credentials, service_port
from huahuo.app.config import Settings
from huahuo.app.credentials import mint
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.options import ConfigFile, program, run, settings, token_option
from huahuo.terminal import printable
from huahuo.transport.client.client import Client
from huahuo.transport.client.model import (
    After,
    ClientError,
    ClientStopped,
    CommandError,
    Event,
    Live,
    Offline,
    Online,
    Outcome,
    Status,
    StreamDenied,
)
from huahuo.transport.protocol.codes import CloseCode

BARS_MAX = 20
"""Checks shown at the same time. Others appear when a bar is free."""

_ENDED = {"ok": "green", "error": "red", "need_reauth": "red", "cancelled": "yellow"}


def position(after: str) -> After:
    """Parse `--after`.

    Raises:
        ConfigError: it is neither a number nor one of the allowed words.
    """
    match after:
        case "head" | "start" | "snapshot":
            return after
        case _ if after.isascii() and after.isdigit():
            return int(after)
        case _:
            raise ConfigError(f"--after is a seq, head, start or snapshot, not {after!r}")


_ANOTHER = "Make a new token by `huahuo token --data DIR`, with the directory that this service uses"
_HINTS: Final[Mapping[int, str]] = {
    CloseCode.TOKEN_INVALID: f"{_ANOTHER}. Its log says what is wrong with this one",
    CloseCode.TOKEN_EXPIRED: _ANOTHER,
    CloseCode.REVOKED: _ANOTHER,
}


async def tail(
    url: str,
    stream: str,
    token: Callable[[], str],
    after: str = "head",
    *,
    as_json: bool = False,
    codes: bool = False,
    console: Console,
    reader: Reader = AS_STORED,
    way_on: Callable[[int], str] | None = None,
) -> None:
    """Follow `stream` until cancelled. `codes`: print only the verification codes of mails.

    `reader`: says the texts of events. JSON has them as they are stored. `way_on`: what to do about a token
    that was made here, by the code of the close; None: the token was given.

    Raises:
        ConfigError: `url` or `after` is malformed.
        HuahuoError: the server refuses the sign-in, or access to this stream (also later).
    """
    # The state names the mailboxes, and what follows it is what follows the head.
    begin = position("snapshot" if codes and after == "head" else after)
    try:
        client = Client(url, get_token=token, language="en")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    errors = Console(stderr=True, highlight=False, emoji=False)
    if codes:
        of = Codes()

        def code(event: Event) -> None:
            for text in of.lines(event):
                try:
                    print(text, file=console.file, flush=True)  # a console makes spaces of tabs
                except BrokenPipeError:
                    console.on_broken_pipe()

        news = _Said(stream, lambda text: errors.out(printable(text)))
        await _follow(client, stream, begin, code, news, way_on)
    elif console.is_terminal and not as_json:
        with Bars(console, reader) as bars:
            await _follow(client, stream, begin, bars.event, _Said(stream, bars.say), way_on)
    else:

        def line(event: Event) -> None:
            console.out(
                printable(json_line(event) if as_json else plain_line(said(event, reader))), highlight=False
            )

        news = _Said(stream, lambda text: errors.out(printable(text)))
        await _follow(client, stream, begin, line, news, way_on)


async def _follow(
    client: Client,
    stream: str,
    after: After,
    show: Callable[[Event], None],
    said: "_Said",
    way_on: Callable[[int], str] | None,
) -> None:
    client.on_status(said)
    try:
        async with client, client.events(stream, after) as events:
            async for event in events:
                show(event)
    except StreamDenied as error:
        raise HuahuoError(f"this token may not read {stream}") from error
    except ClientStopped as error:
        hint = "" if way_on is None else way_on(error.code)
        raise HuahuoError(_ended(error, hint or _HINTS.get(error.code, ""))) from error
    except ClientError as error:
        raise HuahuoError(str(error)) from error
    except asyncio.CancelledError:
        said.say("stopped")
        raise


def _ended(error: ClientStopped, hint: str) -> str:
    said = f"the server ended it: {error.reason} ({error.code})"
    return f"{said}. {hint}" if hint else said


class _Said:
    """Tells the user about changes of the connection, each change once."""

    def __init__(self, stream: str, say: Callable[[str], None]) -> None:
        self.say = say
        self._stream = stream
        self._lost = False

    def __call__(self, status: Status) -> None:
        match status:
            case Offline(code=code, reason=reason, retry_s=retry_s):
                if not self._lost or code is not None:
                    self.say(f"not connected: {reason}; trying again in {retry_s:.1f} s")
                self._lost = True
            case Online() if self._lost:
                self._lost = False
                self.say("connected again")
            case Outcome(stream=self._stream, outcome=outcome, after=seq, head=head):
                self.say(f"{self._stream}: {outcome} at {seq}, head {head}")
            case Live(stream=self._stream, seq=seq):
                self.say(f"{self._stream}: live at {seq}")
            case _:
                pass


def said(event: Event, reader: Reader) -> Event:
    """An event, or a snapshot, as its reader is told."""
    if event.type == "snapshot":
        return msgspec.structs.replace(event, data=reader.state(event.data))
    return msgspec.structs.replace(event, data=reader.fields(event.type, event.data))


def plain_line(event: Event) -> str:
    """An event as seq, type and JSON."""
    return f"{event.seq} {event.type} {msgspec.json.encode(event.data).decode()}"


def json_line(event: Event) -> str:
    """An event as one JSON object."""
    line = {"stream": event.stream, "seq": event.seq, "type": event.type, "data": event.data}
    return msgspec.json.encode(line).decode()


class Codes:
    """The verification codes of mails: time, address and code, with a tab between them."""

    def __init__(self) -> None:
        self._names: dict[Any, str] = {}

    def lines(self, event: Event) -> list[str]:
        """What to print for an event: one line or none."""
        data = event.data
        match event.type:
            case "snapshot":
                self._names |= {row["id"]: str(row["email"]) for row in data["state"].get("emails", ())}
            case "email_added":
                self._names[data.get("email_id")] = str(data.get("email"))
            case "mail_received" if data.get("code"):
                mailbox = data.get("email_id")
                name = self._names.get(mailbox) or f"mailbox {mailbox}"
                fields = (data.get("received_time"), name, data["code"])
                return ["\t".join(printable(str(field).replace("\t", " ")) for field in fields)]
        return []


class Bars:
    """The terminal: bars of running checks below, a line for each other event above."""

    def __init__(self, console: Console, reader: Reader = AS_STORED) -> None:
        self._reader = reader
        self._console = console
        self._names: dict[Any, str] = {}
        self._bars: dict[Any, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[message]}", markup=False),
            console=console,
        )

    def __len__(self) -> int:
        """How many bars are shown."""
        return len(self._bars)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print a line about the connection."""
        self._console.print(Text(printable(text), style="dim"))

    def event(self, event: Event) -> None:
        """Show one event."""
        data = self._reader.fields(event.type, event.data)
        mailbox = data.get("email_id")
        match event.type:
            case "snapshot":
                rows = data["state"].get("emails", ())
                self._names |= {row["id"]: str(row["email"]) for row in rows}
                self._line(event, f"state after {event.seq}" + (f": {len(rows)} mailboxes" if rows else ""))
            case "check_progress" if mailbox is not None:
                self._move(mailbox, data)
            case "email_status_update" if data.get("status") in _ENDED:
                self._end(mailbox)
                status = str(data["status"])
                self._line(
                    event, f"{self._name(mailbox)}: {status} {data.get('message', '')}", _ENDED[status]
                )
            case "email_status_update":
                self._line(event, f"{self._name(mailbox)}: {data.get('status')} {data.get('message', '')}")
            case "email_added":
                self._names[mailbox] = str(data.get("email"))
                self._line(event, f"{self._name(mailbox)} added")
            case "email_deleted":
                self._end(mailbox)
                self._line(event, f"{self._name(mailbox)} deleted")
                self._names.pop(mailbox, None)
            case "mail_received":
                self._line(
                    event, f"{self._name(mailbox)}: {data.get('subject')} ({data.get('sender')})", "cyan"
                )
            case "system_notification":
                self._line(event, str(data.get("message")), "bold yellow")
            case _:
                self._line(event, msgspec.json.encode(data).decode())

    def _name(self, mailbox: object) -> str:
        return self._names.get(mailbox) or f"mailbox {mailbox}"

    def _move(self, mailbox: object, data: dict[str, Any]) -> None:
        message = printable(str(data.get("message", "")))
        if mailbox not in self._bars:
            if len(self._bars) >= BARS_MAX:
                return
            name = printable(self._name(mailbox))
            self._bars[mailbox] = self._progress.add_task(name, total=100, message=message)
        self._progress.update(self._bars[mailbox], completed=data.get("progress", 0), message=message)

    def _end(self, mailbox: object) -> None:
        bar = self._bars.pop(mailbox, None)
        if bar is not None:
            self._progress.remove_task(bar)

    def _line(self, event: Event, text: str, style: str = "") -> None:
        line = Text.assemble((f"{event.seq:>8} ", "dim"), (f"{printable(event.type)} ", "dim"))
        self._console.print(line.append(printable(text), style=style), soft_wrap=True)


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


mailbox_app = program("mailbox", "")  # its help is in huahuo/cli/main.py, which loads this


@mailbox_app.callback()
def mailbox() -> None:
    """One mailbox of a running service."""


@mailbox_app.command(
    "signin", epilog="Example:  huahuo mailbox signin alice@outlook.com --data ./data --user-id 42"
)
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
    if token is not None and url is not None:
        where, source = url, token
    elif user_id is not None:
        where, source = of_directory(settings(data, config_file), credentials.user_id_in(user_id))
    else:
        raise ConfigError("give --user-id (with --data), or --url and --token")
    fields: dict[str, Any] = {"email": address, "mail_type": mail_type}
    if client_id:
        fields["client_id"] = client_id
    run(_sign_in(where, source, fields))


def of_directory(given: Settings, user_id: UserId) -> tuple[str, str]:
    """The address of the service of a directory, and a token for a user.

    Raises:
        HuahuoError: no service runs on it, or it has no key.
    """
    service = service_port.read_address(given.data)
    if service is None:
        raise HuahuoError(f"no service runs on {given.data}: start it with `huahuo serve`")
    secret = credentials.read_jwt_secret(given)
    return service.url, mint(secret, SystemAmbient(), user_id=user_id, username=f"user {user_id}")


async def _sign_in(url: str, token: str, fields: dict[str, Any]) -> None:
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
