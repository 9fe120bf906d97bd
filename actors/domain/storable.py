"""Whether the fields of a class can be stored and shown: which one cannot, and why. Pure."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect

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
