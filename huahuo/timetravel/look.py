"""`huahuo replay state`, `log`, `blame`, `why`, `effects`, `when`: viewing recorded history.

Each returns the exit code: 0 found, 1 nothing found.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history import causes, predicate
from huahuo.replay.history.delta import MISSING, Path, look, parse_path, written
from huahuo.replay.history.history import History, event_at, event_of
from huahuo.replay.history.moment import AtHead, AtSeq, Moment, parse_event, parse_moment
from huahuo.replay.history.timeline import Timeline, blame, first_true
from huahuo.timetravel.show import Out, changes_plain
from huahuo.timetravel.source import subject

FOUND, NOTHING = 0, 1
"""Exit codes."""
_FIELDS_SHOWN_MAX = 30


def moment(text: str | None, ambient: Ambient, otherwise: Moment) -> Moment:
    """Parse `--at` and similar options. Raises ConfigError."""
    if text is None:
        return otherwise
    try:
        return parse_moment(text, ambient.now_ms())
    except ValueError as error:
        raise ConfigError(str(error)) from None


async def state(history: History, entity: str, at: str | None, ambient: Ambient, out: Out) -> int:
    """Show the state at a moment, with the keyframe used and the events applied."""
    timeline = Timeline(history, await subject(out.past, history, entity))
    position = await timeline.place(moment(at, ambient, AtHead()))
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
    return FOUND if any(used.seq for used in timeline.used) else NOTHING


async def log(
    history: History,
    entity: str,
    after: str | None,
    until: str | None,
    ambient: Ambient,
    out: Out,
    *,
    diff: bool,
    types: tuple[str, ...],
    limit: int,
) -> int:
    """Show events in the order of the log, each with its changes. If there are more, say how to go on."""
    timeline = Timeline(history, await subject(out.past, history, entity))
    start = await timeline.place(moment(after, ambient, AtSeq(0)))
    upto = await timeline.place(moment(until, ambient, AtHead()))
    await timeline.seek(start)
    shown = last = 0
    async for step in timeline.walk(upto):
        if types and step.event.type not in types:
            continue
        if shown == limit:
            out.more(f"--after @{last}")
            break
        shown, last = shown + 1, step.event.position
        if out.as_json:
            changes = {"changes": changes_plain(step.changes)} if diff else {}
            out.json(out.plain(step.event) | changes)
        else:
            out.event(step.event)
            if diff:
                out.changes(step.changes)
    return FOUND if shown else NOTHING


async def blamed(history: History, entity: str, path: str, at: str | None, ambient: Ambient, out: Out) -> int:
    """Show which event last changed a field, and the causes of that event."""
    timeline = Timeline(history, await subject(out.past, history, entity))
    try:
        where = parse_path(path)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    upto = await timeline.place(moment(at, ambient, AtHead()))
    step = await blame(timeline, where, upto)
    if step is None:
        if not out.as_json:
            out.line(f"nothing ever changed {path} of {entity}")
            for line in _unknown_fields([where], entity, await timeline.seek(upto)):
                out.line(line)
        return NOTHING
    chain = await causes.why(history, step.event)
    if out.as_json:
        why = [out.plain(link.event) for link in chain[:-1]]
        out.json(out.plain(step.event) | {"changes": changes_plain(step.changes), "why": why})
    else:
        out.event(step.event)
        out.changes(step.changes)
        if len(chain) > 1:
            out.line("because of", "dim")
            out.links(chain[:-1])
    return FOUND


async def why(history: History, name: str, out: Out) -> int:
    """Show the chain of causes that led to an event."""
    chain = await causes.why(history, await _event(history, name))
    _tell(out, chain)
    return FOUND


async def effects(history: History, name: str, out: Out, *, limit: int) -> int:
    """Show the effects of an event."""
    event = await _event(history, name)
    first = causes.Link(event, await causes.siblings(history, event))
    found = [link async for link in causes.effects(history, event, limit=limit + 1)]
    _tell(out, [first, *found[:limit]])
    if len(found) > limit:
        out.more(f"--limit {2 * limit}")
    return FOUND if found else NOTHING


def _is_condition(text: str) -> bool:
    try:
        predicate.parse(text)
    except predicate.BadPredicate:
        return False
    return True


def _with_entity(condition: str) -> str:
    """An example of how to write this condition: `thing/1.n == 1` as `'thing/1 n == 1'`."""
    entity, dot, rest = condition.partition(".")
    names_one = dot and "/" in entity and " " not in entity
    return f"'{entity} {rest}'" if names_one else f"'mailbox/17 {condition}'"


async def when(
    history: History,
    condition: str,
    after: str | None,
    until: str | None,
    ambient: Ambient,
    out: Out,
    *,
    monotone: bool,
) -> int:
    """Show the first moment at which a condition such as `mailbox/17 status == "error"` became true."""
    entity, _, text = condition.strip().partition(" ")
    if not text.strip():
        raise ConfigError("give an entity and a condition: 'mailbox/17 status == \"error\"'")
    try:
        node = predicate.parse(text)
    except predicate.BadPredicate as error:
        if _is_condition(condition):
            raise ConfigError(f"name the entity first: {_with_entity(condition.strip())}") from None
        raise ConfigError(f"not a condition: {error}") from None
    timeline = Timeline(history, await subject(out.past, history, entity))
    start = await timeline.place(moment(after, ambient, AtSeq(0)))
    upto = await timeline.place(moment(until, ambient, AtHead()))
    found = await first_true(timeline, node, start, upto, monotone=monotone)
    if found is None:
        if not out.as_json:
            out.line(f"it never became true up to @{upto}")
            for line in _unknown_fields(predicate.fields(node), entity, await timeline.seek(upto)):
                out.line(line)
        return NOTHING
    if out.as_json:
        event = None if found.event is None else out.plain(found.event)
        out.json({"entity": entity, "position": found.position, "event": event, "state": found.state})
    else:
        if found.event is None:
            out.line(f"already true at @{found.position}")
        else:
            out.event(found.event)
        out.state(found.state)
    return FOUND


def _unknown_fields(paths: Iterable[Path], entity: str, state: Any) -> list[str]:
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


def _tell(out: Out, links: list[causes.Link]) -> None:
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
