"""A short hash over the code of functions: what was made by other code has another one. Pure.

A handler is rarely all of its code: it calls functions beside it and methods of the state, and names
constants. So the code of what a function names in its own package or folder counts too, and plain constants
do.
Another interpreter may give another hash.
"""

import hashlib
import inspect
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any, Final

from huahuo.actors.domain.reached import home_of, is_near, methods_of, values_in

_FUNCTIONS_MAX: Final = 1_000
"""Functions that are looked at for one part."""
_PLAIN: Final = (str, bytes, int, float, complex, type(None))


def print_of(*parts: object) -> str:
    """The hash over texts, the code of functions, and that of classes' methods."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        for piece in [part] if _is_plain(part) else _pieces_of(part):
            digest.update(repr(piece).encode("utf-8", "replace") + b"\0")
    return digest.hexdigest()


def _pieces_of(part: Any) -> Iterator[object]:
    waiting: list[Any] = [part]
    seen: set[int] = set()
    home = home_of(_plainly(_inmost(part)))
    while waiting and len(seen) < _FUNCTIONS_MAX:
        value = waiting.pop()
        if isinstance(value, partial):
            waiting += [value.func, *value.args, *value.keywords.values()]
            continue
        value = _plainly(value)
        if _is_plain(value):
            yield value
        elif isinstance(value, type):
            if id(value) not in seen and is_near(value, home):
                seen.add(id(value))
                waiting += methods_of(value)
        elif isinstance(value, FunctionType):
            if id(value) not in seen and is_near(value, home):
                seen.add(id(value))
                yield from _pieces(value.__code__)
                waiting += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
                waiting += values_in(value)
        elif callable(value) and is_near(type(value), home):
            waiting.append(type(value))


def _inmost(value: Any) -> Any:
    while isinstance(value, partial):
        value = value.func
    return value


def _plainly(value: Any) -> Any:
    """A method as its function, and what is no function (as a cached one) as the function that it wraps.

    A function around another one is code too, and names the other in its closure.
    """
    function = getattr(value, "__func__", value)
    if isinstance(function, type | FunctionType) or not hasattr(function, "__wrapped__"):
        return function
    return inspect.unwrap(function)


def _is_plain(value: object) -> bool:
    """Whether a value's text is the same in each process."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _pieces(code: CodeType) -> Iterator[object]:
    yield code.co_code
    yield code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _pieces(constant)
        elif isinstance(constant, frozenset):
            yield sorted(map(repr, constant))
        else:
            yield constant
