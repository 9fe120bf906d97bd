"""A short hash over the code of functions: what was made by other code has another one. Pure.

A handler is rarely all of its code: it calls functions next to it and methods of the state, and names
constants. So the code of what a function names in its own package or folder counts too, and constants do that
cannot change: an object is only looked at from outside, never asked, as it may do anything when it is.
The hash is the same in each process that has the same code, wherever that lies and however it was started;
another interpreter may give another one.
"""

import hashlib
import inspect
from collections.abc import Iterator
from enum import Enum
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, Final

from huahuo.actors.domain.reached import home_of, is_near, own_values_in, parts_of

_FUNCTIONS_MAX: Final = 1_000
"""Functions and classes that are looked at for one part, besides those of the parts before."""
_DEPTH_MAX: Final = 32
"""Tuples inside each other."""
_PLAIN: Final = (str, bytes, int, float, complex, type(None))
_HOLDS_ONE: Final = (MethodType, classmethod, staticmethod)


def print_of(*parts: object) -> str:
    """The hash over texts, the code of functions, and that of classes' methods."""
    digest = hashlib.blake2b(digest_size=12)
    seen: set[int] = set()
    for part in parts:
        for piece in [_text_of(part)] if _is_plain(part) else _pieces_of(part, seen):
            digest.update(piece.encode("utf-8", "replace") + b"\0")
    return digest.hexdigest()


def _pieces_of(part: Any, seen: set[int]) -> Iterator[str]:
    waiting: list[Any] = [part]
    most = len(seen) + _FUNCTIONS_MAX
    home = home_of(_plainly(_inmost(part)))
    while waiting and len(seen) < most:
        value = waiting.pop()
        kind = type(value)  # not __class__, which a proxy may have to look for
        if issubclass(kind, partial):
            waiting += [value.func, *value.args, *value.keywords.values()]
            continue
        value = _plainly(value)
        if _is_plain(value):
            yield _text_of(value)
        elif issubclass(type(value), type | FunctionType):
            if id(value) in seen or not is_near(value, home):
                continue
            seen.add(id(value))
            if not isinstance(value, FunctionType):
                waiting += parts_of(value)
                continue
            yield from _pieces(value.__code__)
            waiting += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            waiting += own_values_in(value, home)
        elif callable(value) and is_near(kind, home):
            waiting.append(kind)


def _inmost(value: Any) -> Any:
    while issubclass(type(value), partial):
        value = value.func
    return value


def _plainly(value: Any) -> Any:
    """A method as its function, and what is no function (as a cached one) as the function that it wraps.

    A function around another one is code too, and names the other in its closure.
    """
    kind = type(value)
    if issubclass(kind, _HOLDS_ONE):
        return _plainly(value.__func__)
    if issubclass(kind, type | FunctionType) or not callable(value):
        return value
    try:
        inner = inspect.getattr_static(value, "__wrapped__", None)
    except Exception:  # noqa: BLE001  whatever an object that stands for another one raises
        return value
    return inner if type(inner) is FunctionType else value


def _is_plain(value: object, depth: int = 0) -> bool:
    """Whether a value's text is the same in each process."""
    kind = type(value)
    if issubclass(kind, tuple | frozenset):
        return depth < _DEPTH_MAX and all(_is_plain(one, depth + 1) for one in _inner(value))
    return issubclass(kind, Enum) or issubclass(kind, _PLAIN)


def _text_of(value: Any) -> str:
    """That text, whatever a class that derives from the type would say."""
    kind = type(value)
    if issubclass(kind, Enum):
        return f"{value._name_}={_text_of(value._value_) if _is_plain(value._value_) else ''}"
    if issubclass(kind, tuple):
        return f"({','.join(map(_text_of, _inner(value)))})"
    if issubclass(kind, frozenset):
        return f"{{{','.join(sorted(map(_text_of, _inner(value))))}}}"
    if issubclass(kind, int) and kind is not bool:
        return hex(int.__index__(value))  # in decimal digits, the length has a bound
    for base in (str, bytes, float, complex):
        if issubclass(kind, base):
            return base.__repr__(value)
    return repr(value)


def _inner(value: Any) -> Iterator[Any]:
    return tuple.__iter__(value) if issubclass(type(value), tuple) else frozenset.__iter__(value)


def _pieces(code: CodeType) -> Iterator[str]:
    yield repr(code.co_code)
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _pieces(constant)
        else:
            yield _text_of(constant)
