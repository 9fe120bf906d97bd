"""`make demo` and the others install what they need first; where that fails they say what to do."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "setup.sh"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with an environment whose pip reaches nothing."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$2" != pip ] || { echo "pip: no network" >&2; exit 1; }\n')
    python.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("kind", ["run", "cluster", "dev"])
def test_packages_that_cannot_be_installed_end_it_with_what_to_do(clone: Path, kind: str) -> None:
    command = [str(clone / "scripts" / "setup.sh"), kind]
    done = subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip: no network" in done.stderr
    assert "name a proxy" in done.stderr
    assert not list((clone / ".venv").glob(".ready*"))
