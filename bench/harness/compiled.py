"""Builds the harness's own programs in C, once for each version of their sources."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

FLAGS = ("-O2",)


def compiler() -> str | None:
    """The C compiler of this machine."""
    return (shutil.which("cc") or shutil.which("gcc")) if sys.platform == "linux" else None


def build(source: Path, directory: Path, *, with_files: Sequence[Path] = ()) -> Path | None:
    """The program, in `directory`; None if it cannot be built. `with_files`: what the source includes."""
    command = compiler()
    target = directory / source.stem
    directory.mkdir(parents=True, exist_ok=True)
    newest_s = max(path.stat().st_mtime for path in (source, *with_files))
    if command is None or (target.exists() and target.stat().st_mtime >= newest_s):
        return target if target.exists() else None
    with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
        pass
    made = subprocess.run([command, *FLAGS, "-o", file.name, str(source)], check=False)
    if made.returncode:
        Path(file.name).unlink()
        return None
    return Path(file.name).replace(target)
