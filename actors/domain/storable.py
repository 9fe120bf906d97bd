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


def _is_of(told: inspect.Type, kinds: tuple[type[inspect.Type], ...]) -> bool:
    """Whether each value of a type is of one of these kinds."""
    if isinstance(told, inspect.Metadata):
        return _is_of(told.type, kinds)
    if isinstance(told, inspect.UnionType):
        return all(_is_of(one, kinds) for one in told.types)
    return isinstance(told, kinds)


def _wrong(told: inspect.Type, field: str, seen: dict[type, None]) -> Iterator[str]:
    """Each fault of a type, which is that of `field`."""
    if isinstance(told, inspect.CustomType):
        yield f"{_of(field)} has the type {_name(told.cls)}"
        return
    if isinstance(told, inspect.DictType) and not _is_of(told.key_type, _AS_KEYS):
        kind = type(told.key_type).__name__.removesuffix("Type").removeprefix("Var").lower()
        yield f"{_of(field)} is a dict with keys of the type {kind}, and JSON has texts and numbers as keys"
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
