"""What a decision begins or cancels, as lines that a test compares: by name, or with all of it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from huahuo.actors.domain.alike import as_json
from huahuo.actors.domain.decision import After, CancelEffects, Every, ToStart
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.structs import Command, Effect, traits
from huahuo.eventstore.model import NewEvent

_LEAST_MS = 1
"""A timer is due after the decision that sets it."""


def wanted(effects: Sequence[str | ToStart]) -> list[str]:
    """The lines that a test wants to see. Raises TypeError: one is neither a name nor what effects may be."""
    return [one if isinstance(one, str) else _said(one) for one in effects]


def begun(
    events: Sequence[NewEvent], like: Sequence[str | ToStart], now_ms: int, entity: Entity[Any]
) -> list[str]:
    """The lines of a decision's effects and timers, each told as its counterpart in `like`."""
    told: list[Mapping[str, Any]] = [msgspec.json.decode(event.body) for event in events]
    if any(isinstance(one, CancelEffects) for one in like):
        told = [one for one in told if one["type"] != "timers_cancelled"]  # one wish, two events
    by_name = [isinstance(one, str) for one in like] + [not like or isinstance(like[-1], str)] * len(told)
    return [
        _name(one) if short else _whole(one, now_ms, entity)
        for one, short in zip(told, by_name, strict=False)
    ]


def _said(effect: object) -> str:
    match effect:
        case Effect():
            return f"{traits(type(effect)).name} {_json(effect)}"
        case After(seconds, command, name) | Every(seconds, command, name):
            stored = traits(type(command)).name
            wait_ms = max(_LEAST_MS, round(seconds * 1000))
            every_ms = wait_ms if isinstance(effect, Every) else 0
            return _timer(name or stored, stored, _json(command), wait_ms, every_ms)
        case CancelEffects(cls):
            return f"cancel {'all' if cls is None else traits(cls).name}"
        case _:
            why = "is neither a name nor an effect, After, Every or CancelEffects"
            raise TypeError(f"then(effects=…): {effect!r:.60} {why}")


def _name(fields: Mapping[str, Any]) -> str:
    return str(fields.get("effect") or fields.get("name") or fields["type"])


def _whole(fields: Mapping[str, Any], now_ms: int, entity: Entity[Any]) -> str:
    match fields["type"]:
        case "effect_requested":
            return f"{fields['effect']} {_read(fields['job'], fields['effect'], entity.effects)}"
        case "timer_set":
            command = fields["command"]
            sent = _read(fields["fields"], command, entity.decides)
            return _timer(fields["name"], command, sent, fields["due_ms"] - now_ms, fields["every_ms"])
        case "effects_cancelled":
            return f"cancel {fields['effect'] or 'all'}"
        case _:
            return _name(fields)


def _timer(name: str, command: str, fields: str, wait_ms: int, every_ms: int) -> str:
    again = f", then every {every_ms / 1000:g} s" if every_ms else ""
    return f"timer {name}: {command} {fields} in {wait_ms / 1000:g} s{again}"


def _read(fields: object, name: str, classes: Iterable[type[Command | Effect]]) -> str:
    """The stored fields of an effect or a command."""
    cls = next(cls for cls in classes if traits(cls).name == name)
    return plain(msgspec.json.encode(fields), cls)


def _json(value: Command | Effect) -> str:
    return plain(msgspec.json.encode(value), type(value))


def plain(body: bytes, cls: type) -> str:
    """The JSON of a struct, alike for equal ones: sets have no order, and that of dicts says nothing."""
    try:
        value: object = msgspec.json.decode(body, type=cls)
    except msgspec.ValidationError:  # a value of another type: it is shown as it is
        return body.decode()
    return as_json(value).decode()
