"""`huahuo replay state`, `log`, `blame`, `why`, `effects`, `when`, `step`: names, flags and help."""

import sys
from typing import Annotated

import typer

from huahuo.errors import ConfigError
from huahuo.options import EXIT_OK, ConfigFile, known, reader, settings
from huahuo.replay.history.history import History
from huahuo.replay.history.stepper import Stepper
from huahuo.timetravel import look
from huahuo.timetravel.command import (
    AMBIENT,
    After,
    At,
    Data,
    Entity,
    EventName,
    Json,
    Until,
    Verify,
    app,
    look_at,
    output,
)
from huahuo.timetravel.source import subject


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
