"""Nodes and servers of their log die, freeze and are cut off again and again; clients notice only a pause."""

import subprocess
import sys

import pytest

from tests.support.patience import WITHIN_S
from tests.support.proofs import WHOLE
from tests.support.servers.nats import program

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

if WHOLE:

    @pytest.mark.parametrize("log", ["nats", "postgres"])
    def test_nothing_is_lost_or_doubled_while_things_break(log: str) -> None:
        if log == "nats" and program() is None:
            pytest.skip("nats-server is not installed")
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "tests.support.chaos", "--log", log),
                *("--clients", "100", "--seconds", "90", "--rate", "20"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=15 * WITHIN_S,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
