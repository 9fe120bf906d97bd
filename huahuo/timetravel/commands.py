"""`huahuo replay`: names, flags and help of all its commands, registered at the group `app`."""

import inspect
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import typer

from huahuo.app.config import Settings
from huahuo.audit.audited_log import record
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient, rfc3339
from huahuo.eventstore.model import StoredEvent
from huahuo.options import EXIT_NOTHING, EXIT_OK, ConfigFile, finish, known, program, reader, settings
from huahuo.replay.history import conditions
from huahuo.replay.history import history as histories
from huahuo.replay.history import timeline as timelines
from huahuo.replay.history.conditions import MISSING, look, parse_path, written
from huahuo.replay.history.conditions import Path as FieldPath
from huahuo.replay.history.history import AtHead, AtSeq, History, event_at, event_of, parse_event
from huahuo.replay.history.timeline import Stepper, Timeline, position_of_moment
from huahuo.terminal import language_in
from huahuo.timetravel.history_files import open_source, subject
from huahuo.timetravel.look import Out, moment

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


def output(*, as_json: bool) -> Out:
    """The output of a command."""
    return Out(as_json=as_json, past=known(), language=language_in(os.environ))


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


_FIELDS_SHOWN_MAX: Final = 30
_RECORDED: Final = {
    **{name: name for name in ("entity", "path", "event", "condition", "at", "after", "until", "skip")},
    "put": "set",
    "add": "append",
    "start": "from",
    "end": "to",
}
"""The parameters of which the log keeps what was asked, and how it calls them."""


def looks[**P](
    *, epilog: str, verifies: bool = True
) -> Callable[[Callable[P, Coroutine[Any, Any, int]]], Callable[P, Coroutine[Any, Any, int]]]:
    """Register a function as a command that looks at a history, and give it --data, --config and --json.

    It gets the history and the output before its own parameters, and returns the exit code. `verifies`: with
    --verify.
    """

    def register(body: Callable[P, Coroutine[Any, Any, int]]) -> Callable[P, Coroutine[Any, Any, int]]:
        run: Any = body

        def command(
            *,
            data: Data = None,
            config_file: ConfigFile = None,
            as_json: Json = False,
            verify: Verify = False,
            **asked: Any,
        ) -> None:
            what = {_RECORDED[name]: value for name, value in asked.items() if name in _RECORDED}
            out = output(as_json=as_json)
            look_at(
                settings(data, config_file),
                {"replay": run.__name__, **what},
                lambda history: run(history, out, **asked),
                verify=verify,
            )

        own, common = (list(inspect.signature(one).parameters.values()) for one in (body, command))
        given = [*own[2:], *common[: 4 if verifies else 3]]
        plain = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in given]
        command.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]  # typer asks for it
        app.command(run.__name__, epilog=epilog, help=run.__doc__)(command)
        return body

    return register


@looks(epilog="Example:  huahuo replay state mailbox/17 --at -5m")
async def state(history: History, out: Out, entity: Entity, at: At = None) -> int:
    """The state of an entity as of then."""
    timeline = Timeline(history, await subject(out.past, history, entity))
    position = await timeline.place(moment(at, AtHead()))
    shown = await timeline.seek(position)
    event = await event_at(history, position) if position else None
    time = None if event is None else rfc3339(event.ts_ms)
    if out.as_json:
        used = msgspec.to_builtins(timeline.used)
        out.json({"entity": entity, "position": position, "timestamp": time, "used": used, "state": shown})
    else:
        out.line(f"{entity} after @{position}" + (f", {time}" if time else ""), "bold")
        out.state(shown)
        out.used(timeline.used)
    return EXIT_OK if any(used.seq for used in timeline.used) else EXIT_NOTHING


@looks(epilog="Example:  huahuo replay log mailbox/17 --diff --after -1h")
async def log(
    history: History,
    out: Out,
    entity: Entity,
    after: After = None,
    until: Until = None,
    diff: Annotated[bool, typer.Option("--diff", help="With what each event changed.")] = False,
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only this type; repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many events.")] = 1000,
) -> int:
    """The events of an entity, a stream, or (`log`) all."""
    timeline = Timeline(history, await subject(out.past, history, entity))
    start = await timeline.place(moment(after, AtSeq(0)))
    upto = await timeline.place(moment(until, AtHead()))
    await timeline.seek(start)
    shown = last = 0
    async for step in timeline.walk(upto):
        if type_ and step.event.type not in type_:
            continue
        if shown == limit:
            out.more(f"--after @{last}")
            break
        shown, last = shown + 1, step.event.position
        if out.as_json:
            changes = {"changes": [change.plain() for change in step.changes]} if diff else {}
            out.json(out.plain(step.event) | changes)
        else:
            out.event(step.event)
            if diff:
                out.changes(step.changes)
    return EXIT_OK if shown else EXIT_NOTHING


@looks(epilog="Example:  huahuo replay blame mailbox/17 status")
async def blame(
    history: History,
    out: Out,
    entity: Entity,
    path: Annotated[str, typer.Argument(help='A field: status, check.progress, cursors["a.b"].INBOX.')],
    at: At = None,
) -> int:
    """Which event last changed a field, caused by what, by whom."""
    timeline = Timeline(history, await subject(out.past, history, entity))
    try:
        where = parse_path(path)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    upto = await timeline.place(moment(at, AtHead()))
    step = await timelines.blame(timeline, where, upto)
    if step is None:
        if not out.as_json:
            out.line(f"nothing ever changed {path} of {entity}")
            for line in _unknown_fields([where], entity, await timeline.seek(upto)):
                out.line(line)
        return EXIT_NOTHING
    chain = await histories.why(history, step.event)
    if out.as_json:
        why = [out.plain(link.event) for link in chain[:-1]]
        out.json(out.plain(step.event) | {"changes": [change.plain() for change in step.changes], "why": why})
    else:
        out.event(step.event)
        out.changes(step.changes)
        if len(chain) > 1:
            out.line("because of", "dim")
            out.links(chain[:-1])
    return EXIT_OK


@looks(epilog="Example:  huahuo replay why user/42#1042")
async def why(history: History, out: Out, event: EventName) -> int:
    """The chain of causes that led to an event."""
    chain = await histories.why(history, await _event(history, event))
    _tell(out, chain)
    return EXIT_OK


@looks(epilog="Example:  huahuo replay effects @4711")
async def effects(
    history: History,
    out: Out,
    event: EventName,
    limit: Annotated[int, typer.Option(min=1, help="At most this many events.")] = 1000,
) -> int:
    """The events that an event caused."""
    cause = await _event(history, event)
    first = histories.CauseLink(cause, await histories.siblings(history, cause))
    found = [link async for link in histories.effects(history, cause, limit=limit + 1)]
    _tell(out, [first, *found[:limit]])
    if len(found) > limit:
        out.more(f"--limit {2 * limit}")
    return EXIT_OK if found else EXIT_NOTHING


def _is_condition(text: str) -> bool:
    try:
        conditions.parse(text)
    except conditions.BadPredicate:
        return False
    return True


def _with_entity(condition: str) -> str:
    """An example of how to write this condition: `thing/1.n == 1` as `'thing/1 n == 1'`."""
    entity, dot, rest = condition.partition(".")
    names_one = dot and "/" in entity and " " not in entity
    return f"'{entity} {rest}'" if names_one else f"'mailbox/17 {condition}'"


@looks(epilog="""Example:  huahuo replay when 'mailbox/17 status == "error" and progress > 50'""")
async def when(
    history: History,
    out: Out,
    condition: Annotated[str, typer.Argument(help="An entity and a condition over its fields.")],
    after: After = None,
    until: Until = None,
    monotone: Annotated[
        bool, typer.Option("--monotone", help="Once true it stays true: find it by bisection.")
    ] = False,
) -> int:
    """The first moment at which a condition became true."""
    entity, _, text = condition.strip().partition(" ")
    if not text.strip():
        raise ConfigError("give an entity and a condition: 'mailbox/17 status == \"error\"'")
    try:
        node = conditions.parse(text)
    except conditions.BadPredicate as error:
        if _is_condition(condition):
            raise ConfigError(f"name the entity first: {_with_entity(condition.strip())}") from None
        raise ConfigError(f"not a condition: {error}") from None
    timeline = Timeline(history, await subject(out.past, history, entity))
    start = await timeline.place(moment(after, AtSeq(0)))
    upto = await timeline.place(moment(until, AtHead()))
    found = await timelines.first_true(timeline, node, start, upto, monotone=monotone)
    if found is None:
        if not out.as_json:
            out.line(f"it never became true up to @{upto}")
            for line in _unknown_fields(conditions.fields(node), entity, await timeline.seek(upto)):
                out.line(line)
        return EXIT_NOTHING
    if out.as_json:
        event = None if found.event is None else out.plain(found.event)
        out.json({"entity": entity, "position": found.position, "event": event, "state": found.state})
    else:
        if found.event is None:
            out.line(f"already true at @{found.position}")
        else:
            out.event(found.event)
        out.state(found.state)
    return EXIT_OK


def _unknown_fields(paths: Iterable[FieldPath], entity: str, state: Any) -> list[str]:
    """A line for each of these fields that the state lacks, with the fields that it has."""
    lines = []
    for path in sorted(paths):
        depth = next((n for n in range(len(path)) if look(state, path[: n + 1]) is MISSING), len(path))
        around = look(state, path[:depth])
        if depth < len(path) and isinstance(around, Mapping):
            there = ", ".join(str(name) for name in list(around)[:_FIELDS_SHOWN_MAX]) or "none"
            inside = f" in {written(path[:depth])}" if depth else ""
            lines.append(f"{entity} has no field {path[depth]!r}{inside} at the end; its fields: {there}")
    return lines


def _tell(out: Out, links: list[histories.CauseLink]) -> None:
    if not out.as_json:
        out.links(links)
        return
    for link in links:
        beside = [other.position for other in link.siblings]
        out.json({"depth": link.depth} | out.plain(link.event) | {"with": beside})


async def _event(history: History, name: str) -> StoredEvent:
    try:
        stream, number = parse_event(name)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    event = await event_of(history, stream, number)
    if event is None:
        raise LookupError(f"there is no event {name}")
    return event


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
        start = await position_of_moment(history, own, moment(after, AtSeq(0)))
        upto = await position_of_moment(history, own, moment(until, AtHead()))
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


@looks(
    epilog="Example:  huahuo replay fork --skip mailbox/17#9 --set user/42#40.status=ok --to if.jsonl",
    verifies=False,
)
async def fork(
    history: History,
    out: Out,
    at: At = None,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this event out; repeatable.")] = None,
    put: Annotated[
        list[str] | None, typer.Option("--set", help="EVENT.FIELD=VALUE in its body; repeatable.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option("--append", help="'STREAM TYPE {JSON}' at the end; repeatable.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Keep the fork as an export.")] = None,
) -> int:
    """What if: the history up to a moment with events left out, changed or added."""
    from huahuo.timetravel.runs import edits, forked

    wanted = edits(out.past, skip or (), put or (), add or ())
    return await forked(history, at, wanted, to, AMBIENT, out)


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
            return await differ(history, second, tuple(entities or ()), (at, other_at), out)

    look_at(one, what, body)


@looks(epilog="Example:  huahuo replay serve --speed 10x --from -1h", verifies=False)
async def serve(
    history: History,
    out: Out,
    speed: Annotated[str, typer.Option(help="1x is how it was; 10x ten times as quick.")] = "1x",
    start: Annotated[str | None, typer.Option("--from", help="What came before is history already.")] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="End with this moment.", show_default="head")
    ] = None,
    port: Annotated[int, typer.Option(help="TCP port on 127.0.0.1; 0 takes a free one.")] = 0,
    user_id: Annotated[
        str | None, typer.Option(help="Whose stream to show.", show_default="the busiest")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Begin with the first client that signs in.")
    ] = True,
    stay: Annotated[bool, typer.Option("--stay/--no-stay", help="Go on serving after the end.")] = True,
) -> int:
    """A recorded stretch again, over the real wire protocol, for a browser or any client."""
    from huahuo.app.credentials import user_id_in
    from huahuo.timetravel.runs import serve as play

    factor, shown = _factor(speed), None if user_id is None else user_id_in(user_id)
    after = await position_of_moment(history, "log", moment(start, AtSeq(0)))
    upto = await position_of_moment(history, "log", moment(end, AtHead()))
    return await play(history, after, upto, factor, port, shown, AMBIENT, out, wait=wait, stay=stay)


def _factor(text: str) -> float:
    try:
        factor = float(text.removesuffix("x"))
    except ValueError:
        factor = 0.0
    if not 0 < factor < SPEED_MAX:
        raise typer.BadParameter(f"not a speed: {text!r} (1x, 10x, 0.5x)")
    return factor


@looks(
    epilog="Example:  huahuo replay check --against v0.1.0 --save tests/histories/test_progress.py",
    verifies=False,
)
async def check(
    history: History,
    out: Out,
    code: Code = None,
    against: Against = None,
    until: Until = None,
    save: Annotated[Path | None, typer.Option(help="Keep the first difference as a test.")] = None,
) -> int:
    """Recorded history against today's code, or against another version. No effect ever runs."""
    from huahuo.timetravel.check import check as compare

    _one_version(code, against)
    upto = await position_of_moment(history, "log", moment(until, AtHead()))
    return await compare(history, upto, code, against, save, out)


@looks(epilog="Example:  huahuo replay bisect --against HEAD~20", verifies=False)
async def bisect(
    history: History, out: Out, code: Code = None, against: Against = None, until: Until = None
) -> int:
    """The first event at which another version disagrees with today's."""
    from huahuo.timetravel.check import bisect as compare

    if not _one_version(code, against):
        raise ConfigError("give another version: --code PATH or --against REF")
    upto = await position_of_moment(history, "log", moment(until, AtHead()))
    return await compare(history, upto, code, against, out)


def _one_version(code: Path | None, against: str | None) -> bool:
    if code is not None and against is not None:
        raise ConfigError("give either --code or --against")
    return code is not None or against is not None
