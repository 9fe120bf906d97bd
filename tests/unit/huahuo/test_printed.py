"""How a program ends whose reader has closed the pipe."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from huahuo.cli.entry import to_its_end

def run():
    print("damaged")
    {ends}

to_its_end(run)
"""


@pytest.mark.parametrize(
    ("ends", "code"), [("sys.exit(3)", 3), ("raise KeyboardInterrupt", 130), ("sys.exit(0)", 0), ("", 0)]
)
def test_a_closed_pipe_does_not_make_a_failure_a_success(ends: str, code: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(ends=ends)],
            stdout=writing,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # printed at its end
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (code, "")
