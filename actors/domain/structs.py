"""`Event`, `Command`, `Effect`, and what `decide` may answer: a `Decision` or a refusal.

    class Placed(Event, type="order_placed"): ...
    class Place(Command, action="place_order", creates=True): ...
    class Pack(Effect): ...

At run time the metaclass keeps our keywords from msgspec. Type checkers read `__init_subclass__` instead,
because the stub of `Struct` declares one of its own. A `DefinitionError` is a mistake in an application's
own declarations, found before the service serves: its text says where the mistake is (file and line),
which class or function has it, and what to write.
"""

import inspect
import math
import re
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import FrameType, FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, Never, TypeVar, cast, get_type_hints

import msgspec
from msgspec import Struct, StructMeta

from huahuo.actors.domain.storable import NAME, NO_TYPES
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.model import Secret


class DefinitionError(Exception):
    """An event, a command, an effect or an entity that cannot work as it is written."""


class HandlerExit(Exception):  # noqa: N818  what the handler did
    """A handler raised what is no `Exception`. That would end all actors, so it is told as one."""

    def __init__(self, handler: Any, error: BaseException) -> None:
        name = getattr(handler, "__name__", "a handler")
        what = f"{place_of(handler)}: {name} raises {type(error).__name__}"
        super().__init__(f"{what}: raise Refused, or another exception")


def place_of(item: Any) -> str:
    """Where a class or function was written, as `shop.py:12`. Without the source: the module's name."""
    traits = getattr(item, "__traits__", None)
    if traits is not None:
        return str(traits.place)
    if isinstance(item, FunctionType):
        return f"{item.__code__.co_filename}:{item.__code__.co_firstlineno}"
    try:
        file = inspect.getsourcefile(item)
        line = inspect.getsourcelines(item)[1]
    except (OSError, TypeError):
        name = str(getattr(item, "__module__", "?"))
        return str(getattr(sys.modules.get(name), "__file__", None) or name)
    return f"{file}:{line}"


def place_of_caller(package: str) -> str:
    """Where the code outside `package` is that runs now: the line of a class statement or of a call."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  the only way to the caller's line
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(package):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def place_of_user() -> str:
    """Where the application's own code is that runs now, such as its call of `Huahuo(…)`."""
    return place_of_caller("huahuo.")


class Fault(Exception):  # noqa: N818  the log's word
    """A handler answered something that cannot be done. The text says what, and where it is written.

    `told`: what the sender may be told too, which names no file and no value.
    """

    def __init__(self, text: str, told: str = "") -> None:
        super().__init__(text)
        self.told = told


RESERVED_FIELDS: Final = frozenset({"type", "timestamp", "stream", "seq", "in"})
"""Names that the log and the frames give to an event's own facts."""
_HERE: Final = "huahuo.actors.domain"
_TYPE: Final = b'{"type":"'
_encode: Final = msgspec.json.Encoder().encode
_NOT_OURS: Final = frozenset({"tag", "tag_field", "array_like", "forbid_unknown_fields", "frozen"})
"""Keywords of msgspec that would change how a struct is stored."""

_KNOWN_KEYWORDS: Final = _NOT_OURS | {
    "cache_hash", "dict", "eq", "gc", "kw_only", "omit_defaults", "order", "rename",
    "repr_omit_defaults", "weakref",
}  # fmt: skip
"""All keywords of msgspec."""


class Traits(Struct, frozen=True):
    """What the class keywords say. `name` is the stored name; see `Event` and `Command` for the others."""

    name: str
    prunable: bool = False
    rights: bool = False
    action: str = ""
    creates: bool = False
    open: bool = False
    frees: bool = False
    place: str = ""
    """Where the class is written: file and line."""
    named: int = 0
    """Bytes of an event's JSON up to the end of its name: a stored name is ASCII, so as long in JSON."""


class _Meta(StructMeta):
    """Makes the classes of an application. A base of this module itself has no traits."""

    __keywords__: tuple[str, ...]
    __traits__: Traits

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **keywords: Any
    ) -> "_Meta":
        if bases == (Struct,):
            return super().__new__(mcls, name, bases, namespace)
        base, *others = [
            kind for kind in (Event, Command, Effect) if any(issubclass(one, kind) for one in bases)
        ]
        if others:
            _refuse(name, base, f"it cannot be {_a(others[0])} too: write a second class")
        ours = {key: keywords.pop(key) for key in cast("_Meta", base).__keywords__ if key in keywords}
        unknown = keywords.keys() - _KNOWN_KEYWORDS
        if unknown:
            _refuse(name, base, _unknown_keyword(min(unknown), cast("_Meta", base).__keywords__))
        wrong = _NOT_OURS.intersection(keywords)
        if wrong:
            _refuse(name, base, f"the keyword {min(wrong)}= is not allowed: leave it out")
        traits = _traits(name, base, ours)
        if base is Event:
            keywords |= {"tag": traits.name, "tag_field": "type"}
        try:
            cls = super().__new__(mcls, name, bases, namespace, frozen=True, **keywords)
        except (TypeError, ValueError) as error:
            taken = base is Event and "tag_field" in str(error)
            why = "a field may not be called 'type': give it another name" if taken else str(error)
            _refuse(name, base, why)
        cls.__traits__ = traits  # a name that no field can have
        _check_fields(cls, base)
        return cls


class Event(Struct, metaclass=_Meta):
    """A fact. `type` is the stored name: a text of yours, never a Python path, so that classes can move.

    `prunable`: `huahuo compact` may reduce a run of them to the last one. `rights`: after such an event the
    readers of its entity are judged again.
    """

    if TYPE_CHECKING:

        def __init_subclass__(
            cls,
            *,
            type: str,  # noqa: A002  the word of the wire
            prunable: bool = False,
            rights: bool = False,
            kw_only: bool = False,
            omit_defaults: bool = False,
        ) -> None: ...


class Command(Struct, metaclass=_Meta):
    """A wish. With an `action`, clients may send it; without one, only timers, effects and the service.

    `creates`: it may be the first command of its entity. `open`: users who may not read the entity may send
    it too. `frees`: clients may also send it when there is no room for more on the disk. `name`: the stored
    name of a command without action; by default the class's name in snake case.
    """

    if TYPE_CHECKING:

        def __init_subclass__(
            cls,
            *,
            action: str = "",
            creates: bool = False,
            open: bool = False,  # noqa: A002  the word of the interface
            frees: bool = False,
            name: str = "",
            kw_only: bool = False,
            omit_defaults: bool = False,
        ) -> None: ...


class Effect(Struct, metaclass=_Meta):
    """Work to do after the commit. `name`: its stored name; by default the class's name in snake case."""

    if TYPE_CHECKING:

        def __init_subclass__(
            cls, *, name: str = "", kw_only: bool = False, omit_defaults: bool = False
        ) -> None: ...


Event.__keywords__ = ("type", "prunable", "rights")
Command.__keywords__ = ("action", "creates", "open", "frees", "name")
Effect.__keywords__ = ("name",)


def traits(cls: type[Event | Command | Effect]) -> Traits:
    """What the class keywords of `cls` say. Raises AttributeError for the three bases themselves."""
    return cls.__traits__


def holds_secret(cls: type) -> bool:
    """Whether a field's type names `Secret`. Annotations that cannot be resolved yet count as no secret."""
    try:
        hints = get_type_hints(cls)
    except Exception:  # noqa: BLE001  a name defined later; the check at start looks again
        hints = dict(getattr(cls, "__annotations__", {}))
    return any(_names_secret(hint) for hint in hints.values())


def _names_secret(hint: Any) -> bool:
    if isinstance(hint, str):
        return re.search(r"\bSecret\b", hint) is not None
    hint = getattr(hint, "__value__", hint)  # a `type` alias
    if isinstance(hint, type) and issubclass(hint, Secret):
        return True
    return any(_names_secret(inner) for inner in getattr(hint, "__args__", ()))


def _a(base: type) -> str:
    return f"a{'n' if base is Effect else ''} {base.__name__}"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _traits(name: str, base: type, ours: dict[str, Any]) -> Traits:
    if base is Event and not ours.get("type"):
        _refuse(name, base, f'write class {name}(Event, type="{_snake(name)}")')
    action = ours.get("action", "")
    if action and not (isinstance(action, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,63}", action)):
        _refuse(name, base, f"action={action!r}: use small letters, digits and _")
    stored = ours.pop("type", "") or ours.pop("name", "") or ours.get("action", "") or _snake(name)
    ours.pop("name", None)
    if not isinstance(stored, str) or not NAME.fullmatch(stored):
        _refuse(name, base, f"{stored!r} is no stored name: use 1 to 64 letters, digits or _ . : / -")
    if base is Event and stored in NO_TYPES:
        why = f"the type {stored!r} is that of a message of the protocol, and clients would take it for one"
        _refuse(name, base, f'{why}: write another, for example type="{_another(name, stored)}"')
    if ours.get("open") and not action:
        _refuse(name, base, f'open= is for commands that clients send: add action="{_snake(name)}"')
    for key in ours.keys() - {"action"}:
        if not isinstance(ours[key], bool):
            _refuse(name, base, f"{key}={ours[key]!r}: write {key}=True, or leave it out")
    return Traits(stored, place=place_of_caller(_HERE), named=len(_TYPE) + len(stored) + 1, **ours)


def _unknown_keyword(keyword: str, ours: tuple[str, ...]) -> str:
    near = get_close_matches(keyword, ours, 1)
    allowed = ", ".join(f"{one}=" for one in ours)
    return f"there is no keyword {keyword}=: {f'write {near[0]}=' if near else f'it may have {allowed}'}"


def _another(name: str, stored: str) -> str:
    """A stored name like that of the class, or like `stored`, that no message has."""
    snake = _snake(name)
    return snake if snake not in NO_TYPES else f"{stored}_made"


def _check_fields(cls: Any, base: type) -> None:
    taken = RESERVED_FIELDS.intersection(cls.__struct_encode_fields__)
    if taken:
        field = min(taken)
        _refuse(cls.__name__, base, f"a field may not be called {field!r}: give it another name")
    if base is not Command and holds_secret(cls):
        other = "Decision(secrets={…})"
        _refuse(cls.__name__, base, f"it holds a secret and would be stored: leave it out, and use {other}")


def _refuse(name: str, base: type, why: str) -> Never:
    raise DefinitionError(f"{place_of_caller(_HERE)}: class {name}({base.__name__}): {why}")


def encode(event: Event, timestamp: str) -> bytes:
    """The event as it is stored: `type` first, then `timestamp`, then its own fields.

    Raises:
        TypeError, ValueError: a field holds something that JSON cannot.
    """
    body = _encode(event)
    end = type(event).__traits__.named
    return b'%b,"timestamp":"%b"%b' % (body[:end], timestamp.encode(), body[end:])


class EffectFailed(Command):
    """Sent to an entity that decides it, when the last retry of one of its effects has failed.

    `effect` is the stored name, `job` the effect itself (None: its arguments cannot be read any more).
    `error_type` is the name of the last exception's class; its text may quote a secret, and is not kept.
    """

    effect: str
    error_type: str
    attempts: int = 0
    job: Any = None


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


if TYPE_CHECKING:  # so that `Put` alone is a whole type, also for Python 3.12
    from typing_extensions import TypeVar as DefaultingTypeVar

    Value = DefaultingTypeVar("Value", default=Any)
else:
    Value = TypeVar("Value")


class Put(Struct, Generic[Value], frozen=True):  # noqa: UP046  a parameter with a default needs Python 3.13
    """Write one row of a projection. Rows of a `part` are sorted by `key`; `value` is what JSON can hold.

    `Put[Offer]` in an annotation says of which type the values are.
    """

    table: str
    part: str
    key: str | bytes
    value: Value


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
