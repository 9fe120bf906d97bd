"""Where files that live for one run are quickest."""

import os
import subprocess
import tempfile
from pathlib import Path

SHARED = Path("/dev/shm")


def quick_folder(shared: Path = SHARED) -> str | None:
    """The folder of shared memory. None, for the ordinary temporary one, where there is none."""
    return str(shared) if shared.is_dir() else None


def folder_for_programs(*tried: str | None) -> str:
    """The first of these folders from which programs may be run: some are mounted so that none may.

    Without `tried`: the quick one, the ordinary temporary one, and the current one. None means the ordinary
    one. Raises OSError: there is none.
    """
    for folder in tried or (quick_folder(), None, os.getcwd()):  # noqa: PTH109  a text, as the others
        try:
            with tempfile.TemporaryDirectory(prefix="runs-", dir=folder) as name:
                program = Path(name) / "program"
                program.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
                program.chmod(0o700)
                subprocess.run([str(program)], check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return folder or tempfile.gettempdir()
    raise OSError("programs may be run from none of the temporary folders: set TMPDIR to one where they may")
