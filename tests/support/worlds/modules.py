"""The tests of modules of integration, to be collected again where the port is another server's."""

import importlib
import inspect
from collections.abc import Callable, Collection, Iterable


def again(modules: Iterable[str], but: Collection[str] = ()) -> dict[str, Callable[..., object]]:
    """Their tests by name, with the parameters and marks that they have.

    Raises ValueError: a name in two modules would hide a test.
    """
    found: dict[str, Callable[..., object]] = {}
    for module in modules:
        read = importlib.import_module(f"tests.integration.{module}")
        for name, test in inspect.getmembers(read, inspect.isfunction):
            if name.startswith("test_") and test.__module__ == read.__name__:
                if name in found:
                    raise ValueError(f"{name} is in two modules")
                found[name] = test
    for name in but:
        found.pop(name, None)
    return found
