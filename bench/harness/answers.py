"""What a child process tells its parent: lines of JSON, on a pipe that nothing else writes to.

A child's standard output is its parent's standard error, so a log line or a `print` of a library cannot be
taken for an answer. A child that is started by hand answers on standard output.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

PIPE = "BENCH_ANSWERS_FD"
"""The environment variable with the number of the pipe's file descriptor."""


def answer(message: Mapping[str, Any]) -> None:
    """Write one line to the parent, at once."""
    line = json.dumps(message) + "\n"
    number = os.environ.get(PIPE)
    if number is None:
        sys.stdout.write(line)
        sys.stdout.flush()
        return
    data = line.encode()
    while data:
        data = data[os.write(int(number), data) :]
