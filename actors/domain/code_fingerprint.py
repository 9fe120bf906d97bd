"""What the code of an application's function names, as far as that is known before it runs. Pure.

A short hash over the code of functions: what was made by other code has another one. Pure.

A handler is rarely all of its code: it calls functions next to it and methods of the state, and names
constants. So the code of what a function names in its own package or folder counts too, and constants do
that cannot change: an object is only looked at from outside, never asked, as it may do anything when it
is. The hash is the same in each process that has the same code, wherever that lies and however it was
started; another interpreter may give another one.
"""

import dis
import hashlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cached_property, partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final

type Home = tuple[str, str]
"""A package and a folder: see `home_of`."""

_STORE_GLOBAL: Final = dis.opmap["STORE_GLOBAL"]
_FUNCTIONS: Final = (FunctionType, classmethod, staticmethod)


def values_in(function: FunctionType) -> Iterator[Any]:
    """What the names in a function's code stand for, those of its closure first, then sorted by name."""
    names = names_in(function.__code__)
    yield from _cells(function)
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value)[inner] for inner in sorted(names & vars(value).keys()))


def own_values_in(function: FunctionType, home: Home) -> Iterator[Any]:
    """As `values_in`, without what other packages' modules have, also of modules inside modules.

    What Python itself gives a module (`__name__`, `__file__`) says where it lies and how it was started, so
    it is left out; and so is what the function itself assigns, as a cache that it fills.
    """
    names = names_in(function.__code__)
    yield from _cells(function)
    assigned = frozenset(_assigned(function.__code__))
    seen: set[int] = set()
    waiting: list[Mapping[str, Any]] = [function.__globals__]
    while waiting:
        within = waiting.pop()
        for name in sorted(names & within.keys()):
            value = within[name]
            if name.startswith("__") or name in assigned:
                continue
            if not issubclass(type(value), ModuleType):
                yield value
            elif id(value) not in seen and _is_near_module(value, home):
                seen.add(id(value))
                waiting.append(vars(value))


def _cells(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def names_in(code: CodeType) -> set[str]:
    """All names of a function's code, also of what is defined inside it."""
    inner = (names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _assigned(code: CodeType) -> Iterator[str]:
    """The names that a function's code declares `global` and assigns."""
    if _STORE_GLOBAL in code.co_code[::2]:
        yield from (one.argval for one in dis.get_instructions(code) if one.opcode == _STORE_GLOBAL)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _assigned(constant)


def package_of(value: Any) -> str:
    """The package of a function or class: of `shop.orders` it is `shop`, also by `python -m shop.orders`."""
    return _package(str(getattr(value, "__module__", None)))


def _package(module: str) -> str:
    if module == "__main__":
        spec = getattr(sys.modules.get(module), "__spec__", None)
        module = module if spec is None else spec.name
    return module.partition(".")[0]


def home_of(value: Any) -> Home:
    """The package of a function or class, and the folder that it is written in ("" if it has no file)."""
    if isinstance(value, FunctionType):
        file = value.__code__.co_filename
    else:
        file = getattr(sys.modules.get(str(getattr(value, "__module__", None))), "__file__", None) or ""
    return package_of(value), _folder(file)


def _folder(file: str) -> str:
    return os.path.dirname(file)  # noqa: PTH120  a text


def is_near(value: Any, home: Home) -> bool:
    """Whether a function or class is in this package, or written in this folder."""
    package, folder = home_of(value)
    return package == home[0] or ("" != folder == home[1])


def _is_near_module(module: ModuleType, home: Home) -> bool:
    known = object.__getattribute__(module, "__dict__")  # without loading one that waits to be used
    return _package(str(known.get("__name__"))) == home[0] or (
        "" != _folder(str(known.get("__file__") or "")) == home[1]
    )


def parts_of(cls: type) -> Iterator[Any]:
    """What a class and its bases that are near it have, each class's sorted by name: functions, constants."""
    home = home_of(cls)
    for one in cls.__mro__:
        if is_near(one, home):
            for name, value in sorted(vars(one).items()):
                if type(value) in (property, cached_property):
                    yield value.fget if type(value) is property else value.func
                elif not name.startswith("__") or issubclass(type(value), _FUNCTIONS):
                    yield value


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
