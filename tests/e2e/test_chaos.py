"""`make chaos` as a test: nodes, servers and networks fail, and nothing acknowledged is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.proofs import whole_only

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]


@whole_only
@pytest.mark.parametrize("log", ["nats", "postgres"])
def test_ninety_seconds_of_faults_lose_double_and_reorder_nothing(log: str) -> None:
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "tests.support.chaos", "--log", log),
            *("--clients", "200", "--seconds", "90", "--seed", "14"),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"{ran.stdout[-4000:]}\n{ran.stderr[-4000:]}"
