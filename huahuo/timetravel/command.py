"""Shared by all commands of `huahuo replay`: names of options, opening, recording, exit codes."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from huahuo.app.config import Settings
from huahuo.audit.record import record
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.errors import EventStoreError
from huahuo.options import EXIT_OK, code_of_answer, known, program
from huahuo.replay.history.fold import NotFolded
from huahuo.replay.history.history import History
from huahuo.terminal import language_in, printable
from huahuo.timetravel.show import Out
from huahuo.timetravel.source import opened

app = program("replay", "")  # its help is that of the group in huahuo/cli/replay.py, which loads this

Data = Annotated[Path | None, typer.Option(help="Data directory, or an export.", show_default="huahuo-data")]
Json = Annotated[bool, typer.Option("--json", help="JSON, an object a line.")]
At = Annotated[
    str | None,
    typer.Option(help="SEQ, @POSITION, a time or -5m.", show_default="head"),
]
After = Annotated[str | None, typer.Option(help="Begin after this moment.", show_default="the start")]
Until = Annotated[str | None, typer.Option(help="End with this moment.", show_default="head")]
Verify = Annotated[bool, typer.Option("--verify", help="Check every event against its hash first.")]
Entity = Annotated[str, typer.Argument(help="mailbox/17, user/42, system, group/NAME or any stream.")]
EventName = Annotated[str, typer.Argument(metavar="EVENT", help="STREAM#SEQ, or @POSITION.")]

AMBIENT = SystemAmbient()


def output(*, as_json: bool, flushed: bool = False) -> Out:
    """The output of a command."""
    return Out(as_json=as_json, flushed=flushed, past=known(), language=language_in(os.environ))


def look_at(
    given: Settings,
    what: dict[str, object],
    body: Callable[[History], Awaitable[int]],
    *,
    verify: bool = False,
) -> None:
    """Run `body` over the history of `given.data` and exit with its code.

    On a live directory, an event first records the access to `what`. For a copy or an export there is none.
    """
    command = what.pop("replay")

    async def main() -> int:
        async with looked_at(given, f"replay {command}", what, verify=verify) as history:
            return await body(history)

    leave(main)


@asynccontextmanager
async def looked_at(
    given: Settings, command: str, what: Mapping[str, object], *, verify: bool = False
) -> AsyncIterator[History]:
    """The history of `given.data`, after the access is recorded. Raises as `record` and `opened`."""
    if given.data.is_dir():
        await record(given, command, {name: value for name, value in what.items() if value is not None})
    async with opened(given.data, whole=verify) as history:
        yield history


def leave(main: Callable[[], Awaitable[int]]) -> None:
    """Run `main` and exit with its code. An unusable input ends as one line on stderr."""

    async def run() -> int:
        return await main()

    errors = Console(stderr=True, highlight=False, emoji=False)
    try:
        code = asyncio.run(run())
    except LookupError as error:
        errors.print(printable(str(error.args[0] if error.args else error)), markup=False, soft_wrap=True)
        code = code_of_answer(error)
    except (HuahuoError, EventStoreError, NotFolded) as error:
        errors.print(f"huahuo: {printable(str(error))}", markup=False, soft_wrap=True)
        code = code_of_answer(error)
    except BrokenPipeError:  # the reader closed the pipe, e.g. `head`
        code = EXIT_OK
    raise typer.Exit(code)
