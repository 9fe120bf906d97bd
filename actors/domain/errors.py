"""A mistake in an application's own declarations, found before the service serves.

Each message says where the mistake is (file and line), which class or function has it, and what to write.
"""

import inspect
import sys
from types import FrameType, FunctionType
from typing import Any


class DefinitionError(Exception):
    """An event, a command, an effect or an entity that cannot work as it is written."""


class HandlerExit(Exception):  # noqa: N818  what the handler did
    """A handler raised what is no `Exception`. That would end all actors, so it is told as one."""

    def __init__(self, handler: Any, error: BaseException) -> None:
        name = getattr(handler, "__name__", "a handler")
        what = f"{place_of(handler)}: {name} raises {type(error).__name__}"
        super().__init__(f"{what}: raise Refused, or another exception")


def place_of(item: Any) -> str:
    """Where a class or function was written, as `shop.py:12`. Without the source: the module's name."""
    traits = getattr(item, "__traits__", None)
    if traits is not None:
        return str(traits.place)
    if isinstance(item, FunctionType):
        return f"{item.__code__.co_filename}:{item.__code__.co_firstlineno}"
    try:
        file = inspect.getsourcefile(item)
        line = inspect.getsourcelines(item)[1]
    except (OSError, TypeError):
        name = str(getattr(item, "__module__", "?"))
        return str(getattr(sys.modules.get(name), "__file__", None) or name)
    return f"{file}:{line}"


def place_of_caller(package: str) -> str:
    """Where the code outside `package` is that runs now: the line of a class statement or of a call."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  the only way to the caller's line
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(package):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def place_of_user() -> str:
    """Where the application's own code is that runs now, such as its call of `Huahuo(…)`."""
    return place_of_caller("huahuo.")


class Fault(Exception):  # noqa: N818  the log's word
    """A handler answered something that cannot be done. The text says what, and where it is written.

    `told`: what the sender may be told too, which names no file and no value.
    """

    def __init__(self, text: str, told: str = "") -> None:
        super().__init__(text)
        self.told = told
