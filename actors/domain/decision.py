"""What `decide` may answer: events, effects, timers, rows, secrets, or a refusal. Pure data."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from msgspec import Struct

from huahuo.actors.domain.structs import Command, Effect, Event, holds_secret
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.model import Secret

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Refused(Exception):  # noqa: N818  a refusal, both as a value and where it must be raised
    """Why a command is not done: a code for programs and a message for people. `details`: a text, or a dict.

    `decide` returns (or raises) one. Callers of `send` and `publish` catch it.
    """

    def __init__(self, code: str, message: str = "", details: str | Mapping[str, Any] = "") -> None:
        said: dict[str, object] = {"code": code, "message": message}
        if not isinstance(details, Mapping):
            said["details"] = details
        for name, text in said.items():
            if not isinstance(text, str):
                what = type(text).__name__
                raise TypeError(f'Refused: {name} is a text, not {what}: write {name}="…" (str(…))')
        super().__init__(code, message, details)
        self.code = code
        self.message = message
        self.details: Any = details

    def __str__(self) -> str:
        return ": ".join(str(part) for part in (self.code, self.message, self.details) if part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused) and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.args[:2])  # details may be a dict


class To(Struct, frozen=True):
    """An event for another stream than the entity's own. Made by `to`."""

    stream: str
    event: Event


def to(stream: str, event: Event) -> To:
    """Put `event` on `stream` in the same commit: `user/…`, `group/…`, `system` or a kind without entity."""
    if not isinstance(event, Event):
        raise TypeError(
            f"to({stream!r}, …): {event!r:.40} is no event: write an instance of a class of yours"
        )
    return To(stream, event)


class After(Struct, frozen=True):
    """Send `command` to this entity once, `seconds` from now.

    A second one of the same name replaces the first. Without a name it has that of the command.
    """

    seconds: float
    command: Command
    name: str = ""

    def __post_init__(self) -> None:
        _check_timer(self.seconds, self.command)


class Every(Struct, frozen=True):
    """Send `command` to this entity every `seconds`, for the first time after one interval.

    A second one of the same name replaces the first. Without a name it has that of the command.
    """

    seconds: float
    command: Command
    name: str = ""

    def __post_init__(self) -> None:
        _check_timer(self.seconds, self.command)
        if not self.seconds:
            raise ValueError("Every: seconds must be more than 0")


class CancelEffects(Struct, frozen=True):
    """End the open effects of this entity: all, or those of one class."""

    effect: type[Effect] | None = None

    def __post_init__(self) -> None:
        which: object = self.effect
        if which is not None and not (isinstance(which, type) and issubclass(which, Effect)):
            raise TypeError(f"CancelEffects: {which!r:.60} is no class of effects: write CancelEffects(Pack)")


type ToStart = Effect | After | Every | CancelEffects
"""What a decision may name under `effects`."""


class Put(Struct, frozen=True):
    """Write one row of a projection. Rows of a `part` are sorted by `key`; `value` is what JSON can hold."""

    table: str
    part: str
    key: str | bytes
    value: Any


class Drop(Struct, frozen=True):
    """Remove one row of a projection, or (without a key) a whole part."""

    table: str
    part: str
    key: str | bytes | None = None


class Decision(Struct, frozen=True):
    """What will happen, all in one commit.

    `events` are for the entity's own stream, or for another one by `to`. `reply` adds fields to `success`.
    `secrets` are sealed under the entity's key; `shred` destroys that key, and so all its secrets.
    """

    events: Sequence[Event | To] = ()
    effects: Sequence[ToStart] = ()
    reply: Mapping[str, Any] = _NOTHING
    rows: Sequence[Put | Drop] = ()
    secrets: Mapping[str, Secret | str] = _NOTHING
    shred: bool = False

    def __repr__(self) -> str:
        return f"Decision({len(self.events)} events, {len(self.effects)} effects)"


type Outcome = Decision | Sequence[Event | To] | Refused
"""The answer of `decide`. Events alone are short for a Decision of them."""


class Context(Struct, frozen=True):
    """What `decide` may know besides the state and the command: all time and identity come from here.

    `id` is the entity's own. `user_id` is None for commands of timers, effects and the service itself.
    """

    id: int | str
    user_id: UserId | None = None
    username: str = ""
    is_admin: bool = False
    groups: tuple[str, ...] = ()
    now_ms: int = 0
    command_id: str = ""


_SECONDS_MAX: Final = 100_000_000_000
"""The due time must be a whole number of milliseconds that fits into 64 bits, and into a browser."""


def _check_timer(seconds: float, command: Command) -> None:
    if not isinstance(seconds, int | float):
        raise TypeError(f"the seconds of a timer are a number, not a {type(seconds).__name__}")
    if not isinstance(command, Command):
        raise TypeError(
            f"a timer sends a command: {command!r:.40} is none; write an instance, such as Expire()"
        )
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("the seconds of a timer are a finite number, 0 or more")
    if seconds > _SECONDS_MAX:
        raise ValueError(f"the seconds of a timer are at most {_SECONDS_MAX:,}, which are 3,000 years")
    if holds_secret(type(command)):
        raise ValueError(f"{type(command).__name__} holds a secret, and a timer would store it")
