"""Guided by coverage, where the package atheris is installed: a target in a process of its own.

Only the modules that read the bytes are instrumented: all of the program would take minutes.
"""

import importlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

OURS = ("huahuo.", "tests.support.fuzz.on_the_wire")


def is_installed() -> bool:
    """Whether it can be done here."""
    return importlib.util.find_spec("atheris") is not None


def in_a_process(name: str, seconds: float) -> int:
    """The exit code of a process that does it with this target for so long."""
    words = ("--atheris", "--seconds", f"{seconds:g}", name)
    return subprocess.call([sys.executable, "-m", "tests.support.fuzz", *words])


def run(read: Callable[[bytes], object], seeds: Iterable[bytes], seconds: float) -> None:
    """Fuzz until the time is up or `read` raises, and end the process."""
    atheris: Any = importlib.import_module("atheris")
    known = list(seeds)
    modules = sorted(modules_of(read, known))
    functions = [each for name in modules for each in functions_of(sys.modules[name])]
    for function in functions:
        atheris.instrument_func(function)
    print(f"{len(functions)} functions of {len(modules)} modules are instrumented", flush=True)
    with tempfile.TemporaryDirectory(prefix="huahuo-fuzz-") as folder:
        for number, data in enumerate(known):
            (Path(folder) / f"seed-{number}").write_bytes(data)
        limits = f"-max_total_time={max(1, round(seconds))}", f"-artifact_prefix={folder}/"
        atheris.Setup([sys.argv[0], *limits, folder], read)
        atheris.Fuzz()


def modules_of(read: Callable[[bytes], object], seeds: Iterable[bytes]) -> set[str]:
    """The names of our modules that have a part in reading these inputs."""
    found: set[str] = set()

    def called(frame: Any, event: str, _of: object) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith(OURS):
            found.add(name)

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        for data in seeds:
            read(data)
    finally:
        sys.setprofile(before)
    return found


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """The functions that a module defines, and those of its classes."""
    for value in vars(module).values():
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield value
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for each in vars(value).values():
                bare = each.fget if isinstance(each, property) else getattr(each, "__func__", each)
                if isinstance(bare, FunctionType):
                    yield bare
