"""An example whose ports are taken says so in one line."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import WITHIN_S

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_an_example_whose_port_is_taken_says_so_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # if somebody else has it, it is taken all the same
            other.bind(("127.0.0.1", 8000))
            other.listen()
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / "jobs" / "jobs.py")],
            cwd=tmp_path,
            env=os.environ | {"HUAHUO_PORT": "0"},
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert "ports 8000 and 8765 must be free, so end the other example or program first" in line


def test_the_examples_with_a_page_end_alike() -> None:
    ends = {
        (EXAMPLES / name / f"{name}.py").read_text(encoding="utf-8").partition("__main__")[2]
        for name in ("jobs", "chat", "fleet")
    }
    assert len(ends) == 1
