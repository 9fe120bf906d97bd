"""`huahuo replay`: names, flags and help of all its commands, registered at the group `app`."""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from huahuo.app.config import Settings
from huahuo.audit.audited_log import record
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.options import EXIT_NOTHING, EXIT_OK, ConfigFile, finish, known, program, reader, settings
from huahuo.replay.history.history import AtHead, AtSeq, History
from huahuo.replay.history.timeline import Stepper, position_of_moment
from huahuo.terminal import language_in
from huahuo.timetravel import look
from huahuo.timetravel.history_files import open_source, subject
from huahuo.timetravel.look import Out

app = program("replay", "")  # its help is that of the group in huahuo/cli/main.py, which loads this

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

    finish(main())


@asynccontextmanager
async def looked_at(
    given: Settings, command: str, what: Mapping[str, object], *, verify: bool = False
) -> AsyncIterator[History]:
    """The history of `given.data`, after the access is recorded. Raises as `record` and `opened`."""
    if given.data.is_dir():
        await record(given, command, {name: value for name, value in what.items() if value is not None})
    async with open_source(given.data, whole=verify) as history:
        yield history


@app.command(epilog="Example:  huahuo replay state mailbox/17 --at -5m")
def state(
    entity: Entity,
    data: Data = None,
    config_file: ConfigFile = None,
    at: At = None,
    as_json: Json = False,
    verify: Verify = False,
) -> None:
    """The state of an entity as of then."""
    out = output(as_json=as_json)
    look_at(
        settings(data, config_file),
        {"replay": "state", "entity": entity, "at": at},
        lambda history: look.state(history, entity, at, AMBIENT, out),
        verify=verify,
    )


@app.command(epilog="Example:  huahuo replay log mailbox/17 --diff --after -1h")
def log(
    entity: Entity,
    data: Data = None,
    config_file: ConfigFile = None,
    after: After = None,
    until: Until = None,
    diff: Annotated[bool, typer.Option("--diff", help="With what each event changed.")] = False,
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only this type; repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many events.")] = 1000,
    as_json: Json = False,
    verify: Verify = False,
) -> None:
    """The events of an entity, a stream, or (`log`) all."""
    out = output(as_json=as_json)
    look_at(
        settings(data, config_file),
        {"replay": "log", "entity": entity, "after": after, "until": until},
        lambda history: look.log(
            history,
            entity,
            after,
            until,
            AMBIENT,
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
    config_file: ConfigFile = None,
    at: At = None,
    as_json: Json = False,
    verify: Verify = False,
) -> None:
    """Which event last changed a field, caused by what, by whom."""
    out = output(as_json=as_json)
    look_at(
        settings(data, config_file),
        {"replay": "blame", "entity": entity, "path": path, "at": at},
        lambda history: look.blamed(history, entity, path, at, AMBIENT, out),
        verify=verify,
    )


@app.command(epilog="Example:  huahuo replay why user/42#1042")
def why(
    event: EventName,
    data: Data = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
    verify: Verify = False,
) -> None:
    """The chain of causes that led to an event."""
    out = output(as_json=as_json)
    look_at(
        settings(data, config_file),
        {"replay": "why", "event": event},
        lambda history: look.why(history, event, out),
        verify=verify,
    )


@app.command(epilog="Example:  huahuo replay effects @4711")
def effects(
    event: EventName,
    data: Data = None,
    config_file: ConfigFile = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many events.")] = 1000,
    as_json: Json = False,
    verify: Verify = False,
) -> None:
    """The events that an event caused."""
    out = output(as_json=as_json)
    look_at(
        settings(data, config_file),
        {"replay": "effects", "event": event},
        lambda history: look.effects(history, event, out, limit=limit),
        verify=verify,
    )


@app.command(epilog="""Example:  huahuo replay when 'mailbox/17 status == "error" and progress > 50'""")
def when(
    condition: Annotated[str, typer.Argument(help="An entity and a condition over its fields.")],
    data: Data = None,
    config_file: ConfigFile = None,
    after: After = None,
    until: Until = None,
    monotone: Annotated[
        bool, typer.Option("--monotone", help="Once true it stays true: find it by bisection.")
    ] = False,
    as_json: Json = False,
    verify: Verify = False,
) -> None:
    """The first moment at which a condition became true."""
    out = output(as_json=as_json)
    look_at(
        settings(data, config_file),
        {"replay": "when", "condition": condition, "after": after, "until": until},
        lambda history: look.when(history, condition, after, until, AMBIENT, out, monotone=monotone),
        verify=verify,
    )


@app.command(epilog="Example:  huahuo replay step mailbox/17")
def step(entity: Entity, data: Data = None, config_file: ConfigFile = None, verify: Verify = False) -> None:
    """Walk through an entity's events in the terminal: forward, backward, search, watch."""
    try:
        from huahuo.timetravel.step import StepApp
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("textual"):
            raise
        raise ConfigError("step needs Textual: pip install 'huahuo[tui]'") from None
    if not sys.stdout.isatty():
        raise ConfigError(f"step needs a terminal: `huahuo replay log {entity}` prints the events")

    async def body(history: History) -> int:
        walker = StepApp(Stepper(history, await subject(known(), history, entity)), AMBIENT, reader())
        await walker.run_async()
        return EXIT_OK

    look_at(settings(data, config_file), {"replay": "step", "entity": entity}, body, verify=verify)


SPEED_MAX = 1e9

Format = Literal["jsonl", "csv", "parquet", "cloudevents"]
Code = Annotated[
    Path | None, typer.Option(help="Another version: its directory, with --app that of your application.")
]
Against = Annotated[
    str | None, typer.Option(help="Another version: a commit, with --app of your repository.")
]


@app.command(epilog="Example:  huahuo replay export --to log.parquet --format parquet --after -7d")
def export(
    data: Data = None,
    config_file: ConfigFile = None,
    to: Annotated[Path | None, typer.Option(help="File to write.", show_default="standard output")] = None,
    form: Annotated[Format, typer.Option("--format", help="Form of the file.")] = "jsonl",
    stream: Annotated[
        list[str] | None, typer.Option("--stream", help="Only this stream; repeatable.")
    ] = None,
    after: After = None,
    until: Until = None,
    verify: Verify = False,
) -> None:
    """Write events for other tools. Secrets stay sealed."""

    async def body(history: History) -> int:
        from huahuo.timetravel.history_files import export as write

        names = tuple(stream or ())
        own = names[0] if len(names) == 1 else "log"
        start = await position_of_moment(history, own, look.moment(after, AMBIENT, AtSeq(0)))
        upto = await position_of_moment(history, own, look.moment(until, AMBIENT, AtHead()))
        count = await write(history, names, start, upto, form, to, known().sealed_in)
        typer.echo(f"{count} events", err=True)
        return EXIT_OK if count else EXIT_NOTHING

    what: dict[str, object] = {"replay": "export", "streams": stream, "after": after, "until": until}
    look_at(settings(data, config_file), what, body, verify=verify)


@app.command("import", epilog="Example:  huahuo replay import log.jsonl --data ./other")
def import_(
    source: Annotated[Path, typer.Argument(help="An export in JSON Lines.")],
    data: Annotated[Path, typer.Option(help="Directory for the new log; it must not have one.")],
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Make a new log, with a new id, of an export."""

    async def main() -> int:
        from huahuo.timetravel.history_files import import_ as body

        count, log_id = await body(source, settings(data, config_file), AMBIENT)
        if as_json:
            Out(as_json=True).json({"events": count, "log": log_id, "data": str(data)})
        else:
            typer.echo(f"{count} events in the new log {log_id}")
        return EXIT_OK

    finish(main())


@app.command(
    epilog="Example:  huahuo replay fork --skip mailbox/17#9 --set user/42#40.status=ok --to if.jsonl"
)
def fork(
    data: Data = None,
    config_file: ConfigFile = None,
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
    from huahuo.timetravel.runs import edits, forked

    out = output(as_json=as_json)
    what: dict[str, object] = {"replay": "fork", "at": at, "skip": skip, "set": put, "append": add}

    async def body(history: History) -> int:
        wanted = edits(known(), skip or (), put or (), add or ())
        return await forked(history, at, wanted, to, AMBIENT, out)

    look_at(settings(data, config_file), what, body)


@app.command(epilog="Example:  huahuo replay diff mailbox/17 --against if.jsonl --data ./data")
def diff(
    entities: Annotated[
        list[str] | None, typer.Argument(help="Compare the states of these.", show_default="what differs")
    ] = None,
    data: Data = None,
    against: Annotated[
        Path | None,
        typer.Option(help="The other run: a data directory or an export.", show_default="the same"),
    ] = None,
    at: Annotated[str | None, typer.Option(help="Up to this moment of the first.")] = None,
    other_at: Annotated[str | None, typer.Option(help="Up to this moment of the other.")] = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """How two runs, or two moments of one, differ: the events of each stream, and the states."""
    from huahuo.timetravel.runs import differ

    if against is None and at == other_at:
        raise ConfigError("say with what: --against DIR, or two moments of this run, such as --at -1h")
    out = output(as_json=as_json)
    one = settings(data, config_file)
    other = settings(against, config_file) if against else one
    what: dict[str, object] = {"replay": "diff", "other": str(other.data), "entities": entities, "at": at}

    async def body(history: History) -> int:
        async with looked_at(other, "replay diff", what) as second:
            return await differ(history, second, tuple(entities or ()), (at, other_at), AMBIENT, out)

    look_at(one, what, body)


@app.command(epilog="Example:  huahuo replay serve --speed 10x --from -1h")
def serve(
    data: Data = None,
    config_file: ConfigFile = None,
    speed: Annotated[str, typer.Option(help="1x is how it was; 10x ten times as quick.")] = "1x",
    start: Annotated[str | None, typer.Option("--from", help="What came before is history already.")] = None,
    to: Annotated[str | None, typer.Option(help="End with this moment.", show_default="head")] = None,
    port: Annotated[int, typer.Option(help="TCP port on 127.0.0.1; 0 takes a free one.")] = 0,
    user_id: Annotated[
        str | None, typer.Option(help="Whose stream to show.", show_default="the busiest")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Begin with the first client that signs in.")
    ] = True,
    stay: Annotated[bool, typer.Option("--stay/--no-stay", help="Go on serving after the end.")] = True,
    as_json: Json = False,
) -> None:
    """A recorded stretch again, over the real wire protocol, for a browser or any client."""
    from huahuo.app.credentials import user_id_in
    from huahuo.timetravel.runs import serve as play

    out = output(as_json=as_json, flushed=True)
    factor = _factor(speed)
    shown = None if user_id is None else user_id_in(user_id)

    async def body(history: History) -> int:
        after = await position_of_moment(history, "log", look.moment(start, AMBIENT, AtSeq(0)))
        upto = await position_of_moment(history, "log", look.moment(to, AMBIENT, AtHead()))
        return await play(
            history, after, upto, factor, port, shown, AMBIENT, out, wait=wait, stay=stay
        )  # fmt: skip

    look_at(settings(data, config_file), {"replay": "serve", "from": start, "to": to}, body)


def _factor(text: str) -> float:
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < SPEED_MAX:
        raise typer.BadParameter(f"not a speed: {text!r} (1x, 10x, 0.5x)")
    return factor


@app.command(epilog="Example:  huahuo replay check --against v0.1.0 --save tests/histories/test_progress.py")
def check(
    data: Data = None,
    config_file: ConfigFile = None,
    code: Code = None,
    against: Against = None,
    until: Until = None,
    save: Annotated[Path | None, typer.Option(help="Keep the first difference as a test.")] = None,
    as_json: Json = False,
) -> None:
    """Recorded history against today's code, or against another version. No effect ever runs."""
    from huahuo.timetravel.check import check as compare

    out = output(as_json=as_json)

    async def body(history: History) -> int:
        _one_version(code, against)
        upto = await position_of_moment(history, "log", look.moment(until, AMBIENT, AtHead()))
        return await compare(history, upto, code, against, save, out)

    look_at(settings(data, config_file), {"replay": "check", "until": until}, body)


@app.command(epilog="Example:  huahuo replay bisect --against HEAD~20")
def bisect(
    data: Data = None,
    config_file: ConfigFile = None,
    code: Code = None,
    against: Against = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """The first event at which another version disagrees with today's."""
    from huahuo.timetravel.check import bisect as compare

    out = output(as_json=as_json)

    async def body(history: History) -> int:
        if not _one_version(code, against):
            raise ConfigError("give another version: --code PATH or --against REF")
        upto = await position_of_moment(history, "log", look.moment(until, AMBIENT, AtHead()))
        return await compare(history, upto, code, against, out)

    look_at(settings(data, config_file), {"replay": "bisect", "until": until}, body)


def _one_version(code: Path | None, against: str | None) -> bool:
    if code is not None and against is not None:
        raise ConfigError("give either --code or --against")
    return code is not None or against is not None
