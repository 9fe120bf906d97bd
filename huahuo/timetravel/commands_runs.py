"""`huahuo replay export`, `import`, `fork`, `diff`, `serve`, `check`, `bisect`: names, flags and help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from huahuo.errors import ConfigError
from huahuo.options import EXIT_NOTHING, EXIT_OK, ConfigFile, known, settings
from huahuo.replay.history.history import History
from huahuo.replay.history.moment import AtHead, AtSeq
from huahuo.replay.history.timeline import position_of_moment
from huahuo.timetravel import look
from huahuo.timetravel.command import (
    AMBIENT,
    After,
    At,
    Data,
    Json,
    Until,
    Verify,
    app,
    leave,
    look_at,
    looked_at,
    output,
)
from huahuo.timetravel.show import Out

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
        from huahuo.timetravel.transfer import export as write

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
        from huahuo.timetravel.transfer import import_ as body

        count, log_id = await body(source, settings(data, config_file), AMBIENT)
        if as_json:
            Out(as_json=True).json({"events": count, "log": log_id, "data": str(data)})
        else:
            typer.echo(f"{count} events in the new log {log_id}")
        return EXIT_OK

    leave(main)


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
    from huahuo.timetravel.compare import edits, forked

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
    from huahuo.timetravel.compare import differ

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
    from huahuo.app.tokens import user_id_in
    from huahuo.timetravel.stage import serve as play

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
