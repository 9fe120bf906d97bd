"""How `huahuo replay` shows recorded history, and the moments that its options name.

Output is one JSON object per line, or tables and
differences on a terminal. Foreign text (subjects, server answers) is printed without characters that
could move the cursor or reorder the line.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from huahuo.actors.plugins.past import Past, Reader
from huahuo.actors.plugins.words import Language
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient, rfc3339
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history import detached_history
from huahuo.replay.history.conditions import MISSING, Change, written
from huahuo.replay.history.history import (
    CauseLink,
    Moment,
    parse_moment,
)
from huahuo.replay.history.timeline import Used
from huahuo.terminal import counted, printable

_VALUE_CHARS_MAX = 200


class Out:
    """The output of a command. `as_json` sets its form.

    `past`: what is known of the kinds of entities that are shown. `language`: that of the reader, None for
    texts as they are stored, which JSON always has.
    """

    def __init__(
        self,
        *,
        as_json: bool,
        past: Past = Past(),  # noqa: B008  frozen
        language: Language | None = None,
    ) -> None:
        self.as_json = as_json
        self.past = past
        self.reader = Reader(past, language)
        self.console = Console(highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())

    def json(self, value: Any) -> None:
        """Print a JSON object on a line of its own."""
        sys.stdout.write(printable(msgspec.json.encode(value).decode()) + "\n")

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


_AMBIENT = SystemAmbient()


def moment(text: str | None, otherwise: Moment) -> Moment:
    """Parse `--at` and similar options. Raises ConfigError."""
    if text is None:
        return otherwise
    try:
        return parse_moment(text, _AMBIENT.now_ms())
    except ValueError as error:
        raise ConfigError(str(error)) from None
