"""`huahuo replay fork` and `diff`: what-if histories, and differences of two runs.

Each returns the exit code: 0 the same, 1 different.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from huahuo.actors.plugins.past import Past
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.replay.history import exported
from huahuo.replay.history.delta import Change, differences, parse_path
from huahuo.replay.history.fork import Add, Edit, Put, Skip, first_difference, fork
from huahuo.replay.history.history import History, ListHistory, pages_of
from huahuo.replay.history.moment import AtHead, parse_event
from huahuo.replay.history.timeline import Timeline, position_of_moment
from huahuo.timetravel.look import moment
from huahuo.timetravel.show import Out, changes_plain
from huahuo.timetravel.source import subject

SAME, DIFFERENT = 0, 1
EVENTS_MAX = 2_000_000
"""Bound of the events that a comparison holds in memory."""


def edits(past: Past, skip: Sequence[str], put: Sequence[str], add: Sequence[str]) -> list[Edit]:
    """Parse `--skip EVENT`, `--set EVENT.FIELD=JSON` and `--append 'STREAM TYPE JSON'`.

    Raises:
        ConfigError: one of them is malformed.
    """
    try:
        return [*map(_skip, skip), *map(_put, put), *(_add(past, text) for text in add)]
    except ValueError as error:
        raise ConfigError(str(error)) from None


async def forked(
    history: History, at: str | None, wanted: list[Edit], to: Path | None, ambient: Ambient, out: Out
) -> int:
    """Make the fork, write it to `to` if given, and show its differences."""
    upto = await position_of_moment(history, LOG_STREAM, moment(at, ambient, AtHead()))
    original = await _events(history, upto)
    try:
        other = fork(original, wanted)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    log_id = f"fork-{ambient.token(8)}"
    if to is not None:
        lines = [
            exported.header(log_id, len(other)),
            *(exported.line(e, out.past.sealed_in(e)) for e in other),
        ]
        try:
            to.write_bytes(b"\n".join(lines) + b"\n")  # noqa: ASYNC240  nothing else runs on this loop
        except OSError as error:
            raise ConfigError(f"cannot write {to}: {error.strerror}") from None
    return await _compare(ListHistory(original, history.log_id), ListHistory(other, log_id), (), out)


async def differ(
    one: History,
    other: History,
    entities: tuple[str, ...],
    at: tuple[str | None, str | None],
    ambient: Ambient,
    out: Out,
) -> int:
    """Show the first event at which two runs differ, and the differences of their final states."""
    lists = []
    for history, text in ((one, at[0]), (other, at[1])):
        upto = await position_of_moment(history, LOG_STREAM, moment(text, ambient, AtHead()))
        lists.append(ListHistory(await _events(history, upto), history.log_id))
    return await _compare(lists[0], lists[1], entities, out)


async def _compare(one: ListHistory, other: ListHistory, entities: tuple[str, ...], out: Out) -> int:
    found = first_difference(one.events, other.events)
    names = entities or tuple(sorted({*_touched(one, other)}))
    halves = not entities
    changed = {name: await _changes(out.past, one, other, name, halves=halves) for name in names}
    changed = {name: changes for name, changes in changed.items() if changes}
    if out.as_json:
        sides = None if found is None else [None if side is None else out.plain(side) for side in found]
        states = {name: changes_plain(changes) for name, changes in changed.items()}
        out.json({"same": found is None, "first_difference": sides, "states": states})
    else:
        _tell(found, changed, out)
    if entities:
        return DIFFERENT if changed else SAME
    return SAME if found is None else DIFFERENT


def _tell(
    found: tuple[StoredEvent | None, StoredEvent | None] | None, changed: dict[str, list[Change]], out: Out
) -> None:
    if found is None:
        out.line("the same events")
        return
    out.line("first different event", "bold")
    for sign, style, side in (("-", "red", found[0]), ("+", "green", found[1])):
        if side is None:
            out.line(f"{sign} nothing: the run ends here", style)
        else:
            out.line(sign, style)
            out.event(side)
    for name, changes in changed.items():
        out.line(name, "bold")
        out.changes(changes)


def _touched(one: ListHistory, other: ListHistory) -> set[str]:
    """The streams that differ."""
    told: list[dict[str, list[bytes]]] = [{}, {}]
    for held, history in zip(told, (one, other), strict=True):
        for event in history.events:
            held.setdefault(event.stream, []).append(event.body)
    return {
        stream for stream in told[0].keys() | told[1].keys() if told[0].get(stream) != told[1].get(stream)
    }


async def _changes(
    past: Past, one: ListHistory, other: ListHistory, name: str, *, halves: bool
) -> list[Change]:
    before = await _state(past, one, name, halves=halves)
    return differences(before, await _state(past, other, name, halves=halves))


async def _state(past: Past, history: ListHistory, name: str, *, halves: bool) -> dict[str, Any]:
    """The state at the head, {} if the history has no such entity.

    `halves`: of an entity with several streams only the part from this one.
    """
    if not history.head(name).seq:
        return {}
    found = past.own_subject(name) if halves else None
    found = found or await subject(past, history, name)
    return await Timeline(history, found).seek(history.position)


async def _events(history: History, upto: int) -> list[StoredEvent]:
    if upto > EVENTS_MAX:
        raise ConfigError(f"a comparison holds at most {EVENTS_MAX} events: give a moment with --at")
    pages = [page async for page in pages_of(history, LOG_STREAM, 0, upto)]
    return [event for page in pages for event in page]


def _skip(text: str) -> Skip:
    return Skip(parse_event(text))


def _put(text: str) -> Put:
    left, equals, value = text.partition("=")
    event, dot, path = left.partition(".")
    if not equals or not dot:
        raise ValueError(f"not EVENT.FIELD=VALUE: {text!r}")
    try:
        parsed = msgspec.json.decode(value)
    except msgspec.DecodeError:
        parsed = value
    return Put(parse_event(event), parse_path(path.strip()), parsed)


def _add(past: Past, text: str) -> Add:
    stream, _, rest = text.strip().partition(" ")
    type_, _, fields = rest.strip().partition(" ")
    try:
        parsed = msgspec.json.decode(fields or "{}", type=dict[str, Any])
    except msgspec.MsgspecError:
        raise ValueError(f"not STREAM TYPE {{JSON}}: {text!r}") from None
    if not stream or not type_:
        raise ValueError(f"not STREAM TYPE {{JSON}}: {text!r}")
    named = past.entity_of(parsed) if stream.startswith("user/") else None
    return Add(stream, type_, parsed, named or stream)
