"""Builds the optional part in C: `python transport/native/build.py [--sanitize] [FOLDER]`.

Without FOLDER it is built next to its source. Only the standard library is used, because the build hook of
the wheel runs this. Ends with 1 and says why if it cannot be built here; then the same is done in Python.
"""

import argparse
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE / "sends.c"
MODULE = "_sends.abi3.so"
FLAGS = ("-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing")
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


class NotBuiltError(Exception):
    """This machine cannot build it; the message says why."""


def build(folder: Path = HERE, *, sanitize: bool = False) -> Path:
    """Build into `folder` and return the module's path."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    include = Path(sysconfig.get_path("include"))
    if sys.platform != "linux" or sys.implementation.name != "cpython":
        raise NotBuiltError("it is for CPython on Linux")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise NotBuiltError("a free-threaded Python has no limited API")
    if compiler is None:
        raise NotBuiltError("no C compiler")
    if not (include / "Python.h").is_file():
        raise NotBuiltError("no Python.h: on Debian and Ubuntu it is in python3-dev")
    target, made = folder / MODULE, folder / f".{MODULE}.new"
    command = [
        compiler,
        *FLAGS,
        *(SANITIZE if sanitize else ()),
        f"-I{include}",
        "-o",
        str(made),
        str(SOURCE),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own words
    if done.returncode:
        made.unlink(missing_ok=True)
        raise NotBuiltError(f"the compiler failed:\n{done.stderr.strip()}")
    return made.replace(target)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE)
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer")
    options = parser.parse_args()
    try:
        build(options.folder, sanitize=options.sanitize)
    except NotBuiltError as error:
        sys.stderr.write(f"native: not built, {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
