"""The tests of a module of integration, to be run again in another place."""

import importlib
import inspect
from collections.abc import Callable, Iterator


def within(module: str) -> Iterator[Callable[[], object]]:
    found = importlib.import_module(f"tests.integration.{module}")
    for name, test in inspect.getmembers(found, inspect.isfunction):
        if (
            name.startswith("test_")
            and test.__module__ == found.__name__
            and not inspect.signature(test).parameters
        ):
            yield test
