"""Puts a bug into a module of the product when it is imported. The product's files are not touched.

It is also a plug-in of pytest: `-p tests.support.mutants.hook`, with the bug's name in HUAHUO_MUTANT.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Final

from tests.support.mutants.bugs import BUGS, Bug

VARIABLE: Final = "HUAHUO_MUTANT"


class _Loader(SourceFileLoader):
    """Loads the module with the bug, and keeps no bytecode of it."""

    def __init__(self, name: str, path: str, bug: Bug) -> None:
        super().__init__(name, path)
        self._bug = bug

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        code: CodeType = compile(bugged(source, self._bug), self.path, "exec", dont_inherit=True)
        return code


class _Finder:
    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._bug.module:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None:
            return None
        loader = _Loader(name, spec.origin, self._bug)
        return importlib.util.spec_from_file_location(name, spec.origin, loader=loader)


def bugged(source: str, bug: Bug) -> str:
    """The source with the bug. Raises ValueError: the line is not there exactly once any more."""
    if source.count(bug.line) != 1:
        raise ValueError(f"{bug.name}: {bug.module} has {source.count(bug.line)} times: {bug.line!r}")
    return source.replace(bug.line, bug.instead)


def put_in(name: str) -> Bug:
    """Put this bug in. Raises RuntimeError: its module was imported already."""
    bug = BUGS[name]
    if bug.module in sys.modules:
        raise RuntimeError(f"{bug.module} was imported already")
    sys.meta_path.insert(0, _Finder(bug))
    return bug


if chosen := os.environ.get(VARIABLE):
    put_in(chosen)
