"""Numbers, and those that JSON does not have: its encoder writes `nan` and the infinities as `null`. Pure."""

import math
from typing import Any, Final

import msgspec

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
