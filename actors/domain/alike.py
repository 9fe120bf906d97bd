"""Equal values written alike. Sets have no order, and that of dicts says nothing. Pure."""

import copy
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr


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
