"""The program ends with one line where a package is missing."""

import importlib
from collections.abc import Callable

import pytest

from huahuo.cli.entry import guarded


def bring(module: str) -> Callable[[], None]:
    def run() -> None:
        importlib.import_module(module)

    return run


def test_a_missing_package_is_named_with_what_to_run() -> None:
    with pytest.raises(SystemExit, match=r"no_such_package is not installed.*make setup.*pip install"):
        guarded(bring("no_such_package.inner"))


def test_a_module_of_our_own_that_is_missing_is_a_fault_of_ours() -> None:
    with pytest.raises(ModuleNotFoundError):
        guarded(bring("huahuo.no_such_module"))
