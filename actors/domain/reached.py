"""What the code of an application's function names, as far as that is known before it runs. Pure."""

import dis
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import CodeType, FunctionType, ModuleType
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
