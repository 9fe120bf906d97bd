"""The tests of modules of integration, to be collected again where the port is another server's."""

import importlib
import inspect
from collections.abc import Callable, Collection, Iterable
from types import ModuleType

import pytest


def again(modules: Iterable[str], but: Collection[str] = ()) -> dict[str, Callable[..., object]]:
    """Their tests by name, with the parameters and marks that they have, also by their module.

    Raises ValueError: a name in two modules would hide a test.
    """
    found: dict[str, Callable[..., object]] = {}
    for module in modules:
        read = importlib.import_module(f"tests.integration.{module}")
        for name, test in inspect.getmembers(read, inspect.isfunction):
            if name.startswith("test_") and test.__module__ == read.__name__:
                if name in found:
                    raise ValueError(f"{name} is in two modules")
                for mark in _marks(read):
                    mark(test)  # in its own module it has it twice, which changes nothing
                found[name] = test
    for name in but:
        found.pop(name, None)
    return found


def _marks(module: ModuleType) -> list[pytest.MarkDecorator]:
    marks = getattr(module, "pytestmark", [])
    return marks if isinstance(marks, list) else [marks]
