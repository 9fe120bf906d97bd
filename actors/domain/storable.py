"""Names, keys and values that an application may use and store, and equal values written alike. Pure.

JSON has no `nan` and no infinities: its encoder writes them as `null`, so they are refused. Sets have no
order, and that of dicts says nothing: both are written sorted.
"""

import copy
import math
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct, inspect
from msgspec.structs import force_setattr

from huahuo.actors.domain.wire_types import WIRE_TYPES
from huahuo.eventstore.limits import BROWSER_INT_MAX

RESERVED_KINDS: Final = frozenset(
    {
        "user", "group", "system", "log", "mailbox", "roster", "auth", "audit", "effect", "timer", "job",
        "ds", "projection",
    }
)  # fmt: skip
"""Kinds of streams that the service itself writes."""

REPLY_TYPES: Final = frozenset(
    {
        "audit_result", "emails_list", "error", "heartbeat_response", "import_result", "info", "mail",
        "mail_records", "success", "warning",
    }
)  # fmt: skip
"""Types of replies that the service has besides those named after a query."""

NO_TYPES: Final = WIRE_TYPES | REPLY_TYPES
"""Types of the protocol's own messages. A classic client could not tell such an event from a message."""

NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
"""The form of a stored name: what `publish` accepts as a type."""

KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
TAKEN_TABLES: Final = frozenset({"timers"})
"""Projections of the service itself."""
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TEXT_KEY: Final = re.compile(r"[A-Za-z0-9_.@+-]{1,64}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,15}")
_SIGNED: Final = re.compile(r"0|-?[1-9][0-9]{0,15}")
_GROUP: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_NO_NAMES: Final = frozenset({".", ".."})
COUNTER: Final = "entity:"
"""The log's counter of ids of a kind has this prefix."""


def is_table(name: str) -> bool:
    """Whether an application's projection may have this name."""
    return bool(_TABLE.fullmatch(name)) and name not in TAKEN_TABLES


def is_key(key: object, of: type) -> bool:
    """Whether `key` may be the id of an entity whose `key=` is `of`."""
    if of is int:
        return isinstance(key, int) and not isinstance(key, bool) and 0 < key <= BROWSER_INT_MAX
    return isinstance(key, str) and bool(_TEXT_KEY.fullmatch(key)) and key not in _NO_NAMES


def key_of(text: str, of: type) -> int | str | None:
    """The key that is written as `text` in a stream's name, None if it is none."""
    if of is int:
        return int(text) if _NUMBER.fullmatch(text) and int(text) <= BROWSER_INT_MAX else None
    return text if is_key(text, str) else None


def is_own_stream(stream: str, kinds_with_entity: Collection[str]) -> bool:
    """Whether an application may put events of its own on `stream`.

    It may on `user/…`, `group/…`, `system`, and on streams of kinds of its own without an entity.
    """
    kind, slash, rest = stream.partition("/")
    if not slash:
        return stream == "system"
    if kind == "user":
        return bool(_SIGNED.fullmatch(rest)) or (is_key(rest, str))
    if kind == "group":
        return bool(_GROUP.fullmatch(rest))
    free = bool(KIND.fullmatch(kind)) and kind not in RESERVED_KINDS and kind not in kinds_with_entity
    return free and is_key(rest, str)


_NULL: Final = b"null"


def refuse_lost(encoded: bytes, value: object, what: str) -> None:
    """Look for a number of `value` that became `null` in `encoded`: a search of bytes if there is no `null`.

    Raises:
        ValueError: there is one. The text says where, beginning with `what`.
    """
    if _NULL not in encoded:
        return
    place = _lost(msgspec.to_builtins(value, str_keys=True, enc_hook=_skipped), what)
    if place is not None:
        raise ValueError(f"{place}: JSON has no such number; leave it out, or give None")


def _skipped(_raw: Any) -> None:
    """JSON that is ready (`msgspec.Raw`): the only thing that an encoder takes and builtins have none for."""


def _lost(value: Any, place: str) -> str | None:
    """The place and value of the first such number."""
    match value:
        case float():
            return None if math.isfinite(value) else f"{place} is {value}"
        case dict():
            inner = ((f"{place}.{key}", one) for key, one in value.items())
        case list() | tuple():
            inner = ((f"{place}[{index}]", one) for index, one in enumerate(value))
        case _:
            return None
    return next((found for where, one in inner if (found := _lost(one, where)) is not None), None)


def is_whole(value: object, least: int) -> bool:
    """Whether it is a whole number from `least` on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> bool:
    """Whether it is a number, which `True` is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_json(value: object) -> bytes:
    """The JSON of a value, the same for equal ones."""
    try:
        return msgspec.json.encode(value, order="deterministic")
    except TypeError:  # what cannot be compared, as Structs, or a dict whose keys are numbers
        return msgspec.json.encode(_in_order(value))


def as_builtins(value: object) -> Any:
    """A value as dicts with texts as keys, lists, texts and numbers, the same for equal ones."""
    try:
        return msgspec.to_builtins(value, str_keys=True, order="deterministic")
    except TypeError:
        return msgspec.to_builtins(_in_order(value), str_keys=True)


def _in_order(value: Any) -> Any:
    """The value, with lists for its sets, in the order of what is written of their values."""
    if isinstance(value, set | frozenset):
        return sorted(map(_in_order, value), key=msgspec.json.encode) if value else value
    if isinstance(value, list | tuple):
        return list(map(_in_order, value))
    if isinstance(value, dict):
        inner = ((key, _in_order(one)) for key, one in value.items())
        return dict(sorted(inner, key=_key))
    if isinstance(value, Struct):
        copied = copy.copy(value)
        for name in value.__struct_fields__:
            force_setattr(copied, name, _in_order(getattr(value, name)))
        return copied
    return value


def _key(item: tuple[Any, Any]) -> bytes:
    return msgspec.json.encode({item[0]: None})


_AS_KEYS: Final = (
    inspect.AnyType,
    inspect.StrType,
    inspect.IntType,
    inspect.FloatType,
    inspect.EnumType,
    inspect.LiteralType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.UUIDType,
    inspect.DecimalType,
    inspect.BytesType,
)
"""What JSON can have as a key: texts, and what is written as one."""
_PLAIN: Final = (*_AS_KEYS[1:], inspect.NoneType, inspect.BoolType)
"""Values that cannot be changed, and contain no others."""
_SETS: Final = (inspect.SetType, inspect.FrozenSetType)
_CHANGE: Final = (
    inspect.ListType,
    inspect.DictType,
    inspect.SetType,
    inspect.ByteArrayType,
    inspect.TypedDictType,
)
"""Values that can be changed, and so are in no set."""


def unstorable(cls: type) -> str | None:
    """What is wrong with a field of `cls`, such as "the field owner has the type Person". None: nothing."""
    try:
        told = inspect.type_info(cls)
    except Exception as error:  # noqa: BLE001  whatever an annotation that cannot be resolved raises
        return one_line(error)
    return next(_wrong(told, "", {}), None)


def only_plain_values(cls: type) -> bool:
    """Whether a state holds only texts, numbers and the like, so that no handler can change it in place."""
    told = inspect.type_info(cls)
    if not isinstance(told, inspect.StructType):
        return False
    return bool(told.cls.__struct_config__.frozen) and all(
        _is_of(field.type, _PLAIN) for field in told.fields
    )


def structs_in(cls: type) -> list[type]:
    """The structs that the values of a state consist of, `cls` first."""
    return [told.cls for told in _types_in(cls) if isinstance(told, inspect.StructType)]


def holds_sets(cls: type) -> bool:
    """Whether a state may hold a set, which has no order: another process goes through it in another one."""
    return any(isinstance(told, _SETS) for told in _types_in(cls))


def _types_in(cls: type) -> Iterator[inspect.Type]:
    """All types that a class is made of, each class once."""
    seen: set[type] = set()
    waiting: list[inspect.Type] = [inspect.type_info(cls)]
    while waiting:
        told = waiting.pop()
        inner = getattr(told, "cls", None)
        if inner is not None:
            if inner in seen:
                continue
            seen.add(inner)
        yield told
        waiting += [part for part, _ in _parts(told)]


def _is_of(told: inspect.Type, kinds: tuple[type[inspect.Type], ...]) -> bool:
    """Whether each value of a type is of one of these kinds."""
    if isinstance(told, inspect.Metadata):
        return _is_of(told.type, kinds)
    if isinstance(told, inspect.UnionType):
        return all(_is_of(one, kinds) for one in told.types)
    return isinstance(told, kinds)


def _is_hashable(told: inspect.Type) -> bool:
    """Whether the values of a type can be in a set."""
    match told:
        case inspect.Metadata():
            return _is_hashable(told.type)
        case inspect.UnionType():
            return all(map(_is_hashable, told.types))
        case inspect.StructType():
            return bool(told.cls.__struct_config__.frozen)
        case _:
            return not isinstance(told, _CHANGE)


def _wrong(told: inspect.Type, field: str, seen: dict[type, None]) -> Iterator[str]:
    """Each fault of a type, which is that of `field`."""
    if isinstance(told, inspect.CustomType):
        yield f"{_of(field)} has the type {_name(told.cls)}"
        return
    if isinstance(told, inspect.DictType) and not _is_of(told.key_type, _AS_KEYS):
        kind = type(told.key_type).__name__.removesuffix("Type").removeprefix("Var").lower()
        yield f"{_of(field)} is a dict with keys of the type {kind}, and JSON has texts and numbers as keys"
    if isinstance(told, _SETS) and not _is_hashable(told.item_type):
        yield f"{_of(field)} is a set of what can change, and so cannot be in one"
    cls: Any = getattr(told, "cls", None)
    if cls is not None:
        if cls in seen:
            return
        seen[cls] = None
    for inner, name in _parts(told):
        yield from _wrong(inner, f"{field}.{name}".strip(".") if name else field, seen)


def _parts(told: inspect.Type) -> Iterator[tuple[inspect.Type, str]]:
    """The types that a type is made of, with the names of those that are fields."""
    for attribute in msgspec.structs.fields(type(told)):
        value = getattr(told, attribute.name)
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if isinstance(part, inspect.Field):
                yield part.type, part.name
            elif isinstance(part, inspect.Type):
                yield part, ""


def _of(field: str) -> str:
    return f"the field {field}" if field else "it"


def _name(cls: Any) -> str:
    return getattr(cls, "__name__", None) or repr(cls)


def one_line(error: Exception) -> str:
    """The first line of what a library says."""
    return str(error).partition("\n")[0].rstrip(":")
