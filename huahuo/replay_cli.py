"""`huahuo replay`: names, flags and help of the time-travel debugger. Bodies live in `huahuo.replaying`.

Exit codes: 0 found or the same, 1 nothing found or different, 2 not usable (damaged, no such place,
a condition that cannot be read).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from eventstore.ambient import SystemAmbient
from eventstore.errors import EventStoreError
from huahuo import config
from huahuo.audit_record import record
from huahuo.errors import ConfigError, HuahuoError
from huahuo.replaying import look
from huahuo.replaying.show import Out
from huahuo.replaying.source import opened, subject
from huahuo.tail import printable
from replay.history import History
from replay.moment import AtHead, AtSeq
from replay.stepper import Stepper
from replay.timeline import position_of_moment

EXIT_FOUND = 0
EXIT_NOTHING = 1
EXIT_UNUSABLE = 2
SPEED_MAX = 1e9

app = typer.Typer(
    name="replay",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The log as a time-travel debugger: read-only, on a live directory, a copy or an export.",
)

Format = Literal["jsonl", "csv", "parquet", "cloudevents"]
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

_ambient = SystemAmbient()


@app.command(epilog="Example:  huahuo replay state mailbox/17 --at -5m")
def state(
    entity: Entity, data: Data = None, at: At = None, as_json: Json = False, verify: Verify = False
) -> None:
    """The state of an entity as of then."""
    out = Out(as_json=as_json)
    look_at(
        data,
        {"replay": "state", "entity": entity, "at": at},
        lambda history: look.state(history, entity, at, _ambient, out),
        verify=verify,
    )


@app.command(epilog="Example:  huahuo replay log mailbox/17 --diff --after -1h")
def log(
    entity: Entity,
    data: Data = None,
    after: After = None,
    until: Until = None,
    diff: Annotated[bool, typer.Option("--diff", help="With what each event changed.")] = False,
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only this type; repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many events.")] = 1000,
    as_json: Json = False,
    verify: Verify = False,
) -> None:
    """The events of an entity, a stream, or (`log`) all."""
    out = Out(as_json=as_json)
    look_at(
        data,
        {"replay": "log", "entity": entity, "after": after, "until": until},
        lambda history: look.log(
            history,
            entity,
            after,
            until,
            _ambient,
            out,
            diff=diff,
            types=tuple(type_ or ()),
            limit=limit,
        ),
        verify=verify,
    )


@app.command(epilog="Example:  huahuo replay blame mailbox/17 status")
def blame(
    entity: Entity,
    path: Annotated[str, typer.Argument(help='A field: status, check.progress, cursors["a.b"].INBOX.')],
    data: Data = None,
    at: At = None,
    as_json: Json = False,
    verify: Verify = False,
) -> None:
    """Which event last changed a field, caused by what, by whom."""
    out = Out(as_json=as_json)
    look_at(
        data,
        {"replay": "blame", "entity": entity, "path": path, "at": at},
        lambda history: look.blamed(history, entity, path, at, _ambient, out),
        verify=verify,
    )


@app.command(epilog="Example:  huahuo replay why user/42#1042")
def why(event: EventName, data: Data = None, as_json: Json = False, verify: Verify = False) -> None:
    """The chain of causes that led to an event."""
    out = Out(as_json=as_json)
    look_at(
        data, {"replay": "why", "event": event}, lambda history: look.why(history, event, out), verify=verify
    )


@app.command(epilog="Example:  huahuo replay effects @4711")
def effects(
    event: EventName,
    data: Data = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many events.")] = 1000,
    as_json: Json = False,
    verify: Verify = False,
) -> None:
    """What came of an event."""
    out = Out(as_json=as_json)
    look_at(
        data,
        {"replay": "effects", "event": event},
        lambda history: look.effects(history, event, out, limit=limit),
        verify=verify,
    )


@app.command(epilog="""Example:  huahuo replay when 'mailbox/17 status == "error" and progress > 50'""")
def when(
    condition: Annotated[str, typer.Argument(help="An entity and a condition over its fields.")],
    data: Data = None,
    after: After = None,
    until: Until = None,
    monotone: Annotated[
        bool, typer.Option("--monotone", help="Once true it stays true: find it by bisection.")
    ] = False,
    as_json: Json = False,
    verify: Verify = False,
) -> None:
    """The first moment at which a condition became true."""
    out = Out(as_json=as_json)
    look_at(
        data,
        {"replay": "when", "condition": condition, "after": after, "until": until},
        lambda history: look.when(history, condition, after, until, _ambient, out, monotone=monotone),
        verify=verify,
    )


@app.command(epilog="Example:  huahuo replay export --to log.parquet --format parquet --after -7d")
def export(
    data: Data = None,
    to: Annotated[Path | None, typer.Option(help="File to write.", show_default="standard output")] = None,
    form: Annotated[Format, typer.Option("--format", help="What other tool it is for.")] = "jsonl",
    stream: Annotated[
        list[str] | None, typer.Option("--stream", help="Only this stream; repeatable.")
    ] = None,
    after: After = None,
    until: Until = None,
    verify: Verify = False,
) -> None:
    r"""Write events for other tools. Sealed secrets show as \[sealed]."""

    async def body(history: History) -> int:
        from huahuo.replaying.transfer import export as write

        names = tuple(stream or ())
        own = names[0] if len(names) == 1 else "log"
        start = await position_of_moment(history, own, look.moment(after, _ambient, AtSeq(0)))
        upto = await position_of_moment(history, own, look.moment(until, _ambient, AtHead()))
        count = await write(history, names, start, upto, form, to)
        typer.echo(f"{count} events", err=True)
        return EXIT_FOUND if count else EXIT_NOTHING

    what: dict[str, object] = {"replay": "export", "streams": stream, "after": after, "until": until}
    look_at(data, what, body, verify=verify)


@app.command("import", epilog="Example:  huahuo replay import log.jsonl --data ./other")
def import_(
    source: Annotated[Path, typer.Argument(help="An export in JSON Lines.")],
    data: Annotated[Path, typer.Option(help="Directory for the new log; it must not have one.")],
    as_json: Json = False,
) -> None:
    """Make a new log, with a new id, of an export."""

    async def main() -> int:
        from huahuo.replaying.transfer import import_ as body

        count, log_id = await body(source, settings(data), _ambient)
        if as_json:
            Out(as_json=True).json({"events": count, "log": log_id, "data": str(data)})
        else:
            typer.echo(f"{count} events in the new log {log_id}")
        return EXIT_FOUND

    leave(main)


@app.command(
    epilog="Example:  huahuo replay fork --skip mailbox/17#9 --set user/42#40.status=ok --to if.jsonl"
)
def fork(
    data: Data = None,
    at: At = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this event out; repeatable.")] = None,
    put: Annotated[
        list[str] | None, typer.Option("--set", help="EVENT.FIELD=VALUE in its body; repeatable.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option("--append", help="'STREAM TYPE {JSON}' at the end; repeatable.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Keep the fork as an export.")] = None,
    as_json: Json = False,
) -> None:
    """What if: the history up to a moment with events left out, changed or added."""
    from huahuo.replaying.compare import edits, forked

    out = Out(as_json=as_json)
    what: dict[str, object] = {"replay": "fork", "at": at, "skip": skip, "set": put, "append": add}

    async def body(history: History) -> int:
        wanted = edits(skip or (), put or (), add or ())
        return await forked(history, at, wanted, to, _ambient, out)

    look_at(data, what, body)


@app.command(epilog="Example:  huahuo replay diff ./data if.jsonl mailbox/17")
def diff(
    one: Annotated[Path, typer.Argument(help="Data directory or export.")],
    other: Annotated[Path, typer.Argument(help="Another one, or the same.")],
    entities: Annotated[
        list[str] | None, typer.Argument(help="Compare the states of these.", show_default="what differs")
    ] = None,
    at: Annotated[str | None, typer.Option(help="Up to this moment of the first.")] = None,
    other_at: Annotated[str | None, typer.Option(help="Up to this moment of the other.")] = None,
    as_json: Json = False,
) -> None:
    """How two runs, or two moments of one, differ: the first event, and the states."""
    from huahuo.replaying.compare import differ

    out = Out(as_json=as_json)
    what: dict[str, object] = {"replay": "diff", "other": str(other), "entities": entities, "at": at}

    async def body(history: History) -> int:
        async with opened(settings(other).data) as second:
            return await differ(history, second, tuple(entities or ()), (at, other_at), _ambient, out)

    look_at(one, what, body)


@app.command(epilog="Example:  huahuo replay serve --speed 10x --from -1h")
def serve(
    data: Data = None,
    speed: Annotated[str, typer.Option(help="1x is how it was; 10x ten times as quick.")] = "1x",
    start: Annotated[str | None, typer.Option("--from", help="What came before is history already.")] = None,
    to: Annotated[str | None, typer.Option(help="End with this moment.", show_default="head")] = None,
    port: Annotated[int, typer.Option(help="TCP port on 127.0.0.1; 0 takes a free one.")] = 0,
    user_id: Annotated[
        int | None, typer.Option(help="Whose stream to show.", show_default="the busiest")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Begin with the first client that signs in.")
    ] = True,
    stay: Annotated[bool, typer.Option("--stay/--no-stay", help="Go on serving after the end.")] = True,
    as_json: Json = False,
) -> None:
    """A recorded stretch again, over the real wire protocol, for a browser or any client."""
    from huahuo.replaying.stage import serve as play

    out = Out(as_json=as_json, flushed=True)
    factor = _factor(speed)

    async def body(history: History) -> int:
        after = await position_of_moment(history, "log", look.moment(start, _ambient, AtSeq(0)))
        upto = await position_of_moment(history, "log", look.moment(to, _ambient, AtHead()))
        return await play(
            history, after, upto, factor, port, user_id, _ambient, out, wait=wait, stay=stay
        )  # fmt: skip

    look_at(data, {"replay": "serve", "from": start, "to": to}, body)


def _factor(text: str) -> float:
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < SPEED_MAX:
        raise typer.BadParameter(f"not a speed: {text!r} (1x, 10x, 0.5x)")
    return factor


@app.command(epilog="Example:  huahuo replay step mailbox/17")
def step(entity: Entity, data: Data = None, verify: Verify = False) -> None:
    """Walk through an entity's events in the terminal: forward, backward, search, watch."""
    try:
        from huahuo.replaying.step import StepApp
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("textual"):
            raise
        raise ConfigError("step needs Textual: pip install 'huahuo[tui]'") from None

    async def body(history: History) -> int:
        walker = StepApp(Stepper(history, await subject(history, entity)), _ambient)
        await walker.run_async()
        return EXIT_FOUND

    look_at(data, {"replay": "step", "entity": entity}, body, verify=verify)


Code = Annotated[Path | None, typer.Option(help="Another version: a directory with its packages.")]
Against = Annotated[str | None, typer.Option(help="Another version: a commit of this repository.")]


@app.command(epilog="Example:  huahuo replay check --against v0.1.0 --save tests/histories/test_progress.py")
def check(
    data: Data = None,
    code: Code = None,
    against: Against = None,
    until: Until = None,
    save: Annotated[Path | None, typer.Option(help="Keep the first difference as a test.")] = None,
    as_json: Json = False,
) -> None:
    """Recorded history against today's code, or against another version. No effect ever runs."""
    from huahuo.replaying.check import check as compare

    out = Out(as_json=as_json)

    async def body(history: History) -> int:
        _one_version(code, against)
        upto = await position_of_moment(history, "log", look.moment(until, _ambient, AtHead()))
        return await compare(history, upto, code, against, save, out)

    look_at(data, {"replay": "check", "until": until}, body)


@app.command(epilog="Example:  huahuo replay bisect --against HEAD~20")
def bisect(
    data: Data = None,
    code: Code = None,
    against: Against = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """The first event at which another version disagrees with today's."""
    from huahuo.replaying.check import bisect as compare

    out = Out(as_json=as_json)

    async def body(history: History) -> int:
        if not _one_version(code, against):
            raise ConfigError("give another version: --code PATH or --against REF")
        upto = await position_of_moment(history, "log", look.moment(until, _ambient, AtHead()))
        return await compare(history, upto, code, against, out)

    look_at(data, {"replay": "bisect", "until": until}, body)


def _one_version(code: Path | None, against: str | None) -> bool:
    if code is not None and against is not None:
        raise ConfigError("give either --code or --against")
    return code is not None or against is not None


def settings(data: Path | None) -> config.Settings:
    """The settings of a data directory."""
    return config.load(environ=os.environ, flags={"data": data})


def look_at(
    data: Path | None,
    what: dict[str, object],
    body: Callable[[History], Awaitable[int]],
    *,
    verify: bool = False,
) -> None:
    """Run `body` over the history at `data` and exit with its code.

    On a live directory it is recorded first who looks at `what`; a copy and an export record nothing.
    """
    command = what.pop("replay")

    async def main() -> int:
        given = settings(data)
        if given.data.is_dir():
            await record(given, f"replay {command}", {k: v for k, v in what.items() if v is not None})
        async with opened(given.data, whole=verify) as history:
            return await body(history)

    leave(main)


def leave(main: Callable[[], Awaitable[int]]) -> None:
    """Run `main` and exit with its code; what cannot be used ends as one line on stderr."""

    async def run() -> int:
        return await main()

    errors = Console(stderr=True, highlight=False)
    try:
        code = asyncio.run(run())
    except LookupError as error:
        errors.print(printable(str(error.args[0] if error.args else error)), markup=False, soft_wrap=True)
        code = EXIT_NOTHING
    except (HuahuoError, EventStoreError) as error:
        errors.print(f"huahuo: {printable(str(error))}", markup=False, soft_wrap=True)
        code = EXIT_UNUSABLE
    except BrokenPipeError:  # the reader of the pipe has seen enough
        code = 0
    raise typer.Exit(code)
