"""What the code of an application's function names, as far as that is known before it runs. Pure."""

import inspect
import os
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any


def values_in(function: FunctionType) -> Iterator[Any]:
    """What the names in a function's code stand for, those of its closure first, then sorted by name."""
    names = names_in(function.__code__)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value)[inner] for inner in sorted(names & vars(value).keys()))


def names_in(code: CodeType) -> set[str]:
    """All names of a function's code, also of what is defined inside it."""
    inner = (names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def package_of(value: Any) -> str:
    """The package of a function or class: of `shop.orders` it is `shop`."""
    return str(getattr(value, "__module__", None)).partition(".")[0]


def home_of(value: Any) -> tuple[str, str]:
    """The package of a function or class, and the folder that it is written in ("" if it has no file)."""
    if isinstance(value, FunctionType):
        file = value.__code__.co_filename
    else:
        file = getattr(sys.modules.get(str(getattr(value, "__module__", None))), "__file__", None) or ""
    return package_of(value), os.path.dirname(file)  # noqa: PTH120  a text


def is_near(value: Any, home: tuple[str, str]) -> bool:
    """Whether a function or class is in this package, or written in this folder."""
    package, folder = home_of(value)
    return package == home[0] or ("" != folder == home[1])


def methods_of(cls: type) -> Iterator[FunctionType]:
    """The functions of a class and of its bases that are near it, each class's sorted by name."""
    home = home_of(cls)
    for one in cls.__mro__:
        if not is_near(one, home):
            continue
        for _, value in sorted(vars(one).items()):
            function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
            if isinstance(inspect.unwrap(function) if callable(function) else None, FunctionType):
                yield inspect.unwrap(function)
