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
from huahuo.options import assigned
from huahuo.replay.history import exported
from huahuo.replay.history.delta import Change, differences, parse_path
from huahuo.replay.history.fork import Add, Apart, Edit, Put, Skip, apart, fork
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
    """Show the first event that differs, how many do of each stream, and the differences of the states."""
    lists = []
    for history, text in ((one, at[0]), (other, at[1])):
        upto = await position_of_moment(history, LOG_STREAM, moment(text, ambient, AtHead()))
        lists.append(ListHistory(await _events(history, upto), history.log_id))
    return await _compare(lists[0], lists[1], entities, out)


async def _compare(one: ListHistory, other: ListHistory, entities: tuple[str, ...], out: Out) -> int:
    found = apart(one.events, other.events)
    names = entities or tuple(sorted(found))
    halves = not entities
    changed = {name: await _changes(out.past, one, other, name, halves=halves) for name in names}
    changed = {name: changes for name, changes in changed.items() if changes}
    if out.as_json:
        sides = [None if side is None else out.plain(side) for side in _first(found)] if found else None
        streams = {name: {"first": len(both.one), "second": len(both.other)} for name, both in found.items()}
        states = {name: changes_plain(changes) for name, changes in changed.items()}
        out.json({"same": not found, "first_difference": sides, "events": streams, "states": states})
    else:
        _tell(found, changed, out)
    if entities:
        return DIFFERENT if changed else SAME
    return DIFFERENT if found else SAME


def _first(found: dict[str, Apart]) -> tuple[StoredEvent | None, StoredEvent | None]:
    """The stream that differs first: the next event of each run on it, None where it has none."""
    both = min(
        found.values(), key=lambda both: min(event.position for event in (*both.one[:1], *both.other[:1]))
    )
    return next(iter(both.one), None), next(iter(both.other), None)


def _tell(found: dict[str, Apart], changed: dict[str, list[Change]], out: Out) -> None:
    if not found:
        out.line("the same events")
        return
    out.line("first different event", "bold")
    for sign, style, side in zip("-+", ("red", "green"), _first(found), strict=True):
        if side is None:
            out.line(f"{sign} nothing: the stream has no such event here", style)
        else:
            out.line(sign, style)
            out.event(side)
    for name, both in found.items():
        out.line(f"{name}: {len(both.one)} events in the first only, {len(both.other)} in the second only")
    for name, changes in changed.items():
        out.line(name, "bold")
        out.changes(changes)


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
    left, parsed = assigned(text)
    event, dot, path = left.partition(".")
    if not dot:
        raise ValueError(f"not EVENT.FIELD=VALUE: {text!r}")
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
