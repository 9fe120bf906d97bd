"""`huahuo replay state`, `log`, `blame`, `why`, `effects`, `when`: recorded history, and how it is shown.

Each returns the exit code: 0 found, 1 nothing found. Output is one JSON object per line, or tables and
differences on a terminal. Foreign text (subjects, server answers) is printed without characters that
could move the cursor or reorder the line.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from huahuo.actors.plugins.past import Past, Reader
from huahuo.actors.plugins.words import Language
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history import conditions, detached_history
from huahuo.replay.history import history as histories
from huahuo.replay.history.conditions import MISSING, Change, Path, look, parse_path, written
from huahuo.replay.history.history import (
    AtHead,
    AtSeq,
    CauseLink,
    History,
    Moment,
    event_at,
    event_of,
    parse_event,
    parse_moment,
)
from huahuo.replay.history.timeline import Timeline, Used, blame, first_true
from huahuo.terminal import counted, printable
from huahuo.timetravel.history_files import subject

_VALUE_CHARS_MAX = 200


class Out:
    """The output of a command. `as_json` sets its form. `flushed`: flush after each line.

    `past`: what is known of the kinds of entities that are shown. `language`: that of the reader, None for
    texts as they are stored, which JSON always has.
    """

    def __init__(
        self,
        *,
        as_json: bool,
        flushed: bool = False,
        past: Past = Past(),  # noqa: B008  frozen
        language: Language | None = None,
    ) -> None:
        self.as_json = as_json
        self.past = past
        self.reader = Reader(past, language)
        self._flushed = flushed
        self.console = Console(highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())

    def json(self, value: Any) -> None:
        """Print a JSON object on a line of its own."""
        sys.stdout.write(printable(msgspec.json.encode(value).decode()) + "\n")
        if self._flushed:
            sys.stdout.flush()

    def plain(self, event: StoredEvent) -> dict[str, Any]:
        """An event as JSON, with sealed secrets marked."""
        return detached_history.plain(self._today(event), self.past.sealed_in(event))

    def _today(self, event: StoredEvent) -> StoredEvent:
        """In today's version; as stored, if the upcast fails: `check` says why."""
        try:
            return self.past.today(event)
        except Exception:  # noqa: BLE001  an application's code
            return event

    def _told(self, event: StoredEvent) -> StoredEvent:
        return self.reader.event(self._today(event))

    def line(self, text: str | Text, style: str = "") -> None:
        """Print a line for people."""
        shown = text if isinstance(text, Text) else Text(printable(text), style=style)
        self.console.print(shown)

    def more(self, option: str) -> None:
        """Say by which option to see what was left out. On stderr: programs read the other output."""
        Console(stderr=True, highlight=False, emoji=False).print(Text(f"more: {option}", style="dim"))

    def state(self, state: Any) -> None:
        """Print a state, one path per line."""
        for text in state_texts(self.reader.state(state)):
            self.console.print(text, soft_wrap=True)

    def changes(self, changes: Iterable[Change], indent: str = "    ") -> None:
        """Print differences: the old value in red, the new one in green."""
        for change in changes:
            self.console.print(change_text(told_change(change, self.reader), indent), soft_wrap=True)

    def event(self, event: StoredEvent) -> None:
        """Print one event on a line."""
        self.console.print(event_text(self._told(event)), soft_wrap=True)

    def links(self, links: Sequence[CauseLink]) -> None:
        """Print a chain or tree of causes."""
        for link in links:
            mark = "└─ " if link.depth else ""
            head = Text("   " * max(0, link.depth - 1) + mark) + event_text(self._told(link.event))
            self.console.print(head, soft_wrap=True)
            for other in link.siblings:
                beside = Text("   " * link.depth + "with ", style="dim")
                self.console.print(beside + event_text(self._told(other)), soft_wrap=True)

    def used(self, used: Iterable[Used]) -> None:
        """Print how a state was computed."""
        for part in used:
            frame = f"keyframe after {part.keyframe}" if part.keyframe else "no keyframe"
            self.line(
                f"{part.stream} ({part.fold}): {frame}, {counted(part.applied, 'event')} applied", "dim"
            )


def told_change(change: Change, reader: Reader) -> Change:
    """A difference as its reader is told."""
    name = change.path[-1] if change.path else ""
    before, after = (reader.leaf(name, reader.state(value)) for value in (change.before, change.after))
    return Change(change.path, before, after)


def state_texts(state: Any) -> list[Text]:
    """A state, a path a line."""
    return [
        Text.assemble((printable(path), "cyan"), " = ", printable(value_text(value)))
        for path, value in _leaves(state)
    ]


def event_text(event: StoredEvent) -> Text:
    """One event on one line."""
    position, time, name, type_, by, command, cause, data = _cells(event)
    text = Text.assemble((f"@{position}", "bold"), f" {time} ", (name, "magenta"), " ", (type_, "bold cyan"))
    for label, value in (("by", by), ("command", command), ("cause", cause and f"@{cause}")):
        if value:
            text.append(f" {label} {value}", style="dim")
    return text.append(f" {data}")


def change_text(change: Change, indent: str = "") -> Text:
    """One difference on one line."""
    text = Text(indent).append(printable(written(change.path)), style="cyan").append(": ")
    if change.before is not MISSING:
        text.append(printable(value_text(change.before)), style="red")
    if change.before is not MISSING and change.after is not MISSING:
        text.append(" → ")
    if change.after is not MISSING:
        text.append(printable(value_text(change.after)), style="green")
    elif change.before is not MISSING:
        text.append(" removed", style="dim")
    return text


def _cells(event: StoredEvent) -> tuple[str, ...]:
    body = msgspec.json.decode(event.body, type=dict[str, Any])
    shown = {name: value for name, value in body.items() if name not in ("type", "timestamp")}
    data = " ".join(f"{name}={value_text(value)}" for name, value in shown.items())
    cells = (
        str(event.position),
        rfc3339(event.ts_ms),
        f"{event.stream}#{event.seq}",
        event.type,
        event.principal,
        event.command_id,
        str(event.cause) if event.cause else "",
        data,
    )
    return tuple(printable(cell) for cell in cells)


def _leaves(state: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[str, Any]]:
    if isinstance(state, dict) and state:
        for name, value in state.items():
            yield from _leaves(value, (*path, str(name)))
    elif path:
        yield written(path), state


def value_text(value: Any) -> str:
    """A value as JSON, cut off if it is long."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _VALUE_CHARS_MAX else text[: _VALUE_CHARS_MAX - 1] + "…"


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
            changes = {"changes": [change.plain() for change in step.changes]} if diff else {}
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
    return FOUND


async def why(history: History, name: str, out: Out) -> int:
    """Show the chain of causes that led to an event."""
    chain = await histories.why(history, await _event(history, name))
    _tell(out, chain)
    return FOUND


async def effects(history: History, name: str, out: Out, *, limit: int) -> int:
    """Show the effects of an event."""
    event = await _event(history, name)
    first = histories.CauseLink(event, await histories.siblings(history, event))
    found = [link async for link in histories.effects(history, event, limit=limit + 1)]
    _tell(out, [first, *found[:limit]])
    if len(found) > limit:
        out.more(f"--limit {2 * limit}")
    return FOUND if found else NOTHING


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
        node = conditions.parse(text)
    except conditions.BadPredicate as error:
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
            for line in _unknown_fields(conditions.fields(node), entity, await timeline.seek(upto)):
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
