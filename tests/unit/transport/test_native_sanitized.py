"""The part in C under AddressSanitizer and UBSan, with random calls. `make check-all` runs many more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from huahuo.transport.native.build import NotBuiltError, build
from tests.support.drivers import native_fuzz
from tests.support.patience import WITHIN_S
from tests.support.proofs import WHOLE

CALLS = 5_000 if WHOLE else 100
LONGEST_S = 20 * WITHIN_S
"""In full it takes some 30 s of processor time, on a machine that may do much else."""


def library(name: str) -> str:
    """The path of a library of the compiler."""
    asked = subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


@pytest.mark.slow
@pytest.mark.timeout(2 * LONGEST_S)
def test_random_calls_touch_no_memory_that_is_not_theirs(tmp_path: Path) -> None:
    try:
        module = build(tmp_path, sanitize=True)
    except NotBuiltError as error:
        pytest.skip(f"the part in C cannot be built: {error}")
    environ = os.environ | {
        "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter frees little at its end
        "PYTHONMALLOC": "malloc",
    }
    command = [sys.executable, native_fuzz.__file__, str(module), "1", str(CALLS)]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, timeout=LONGEST_S
    )
    assert done.returncode == 0, done.stderr[-4000:]
