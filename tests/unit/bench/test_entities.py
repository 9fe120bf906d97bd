"""The phases of the entity benchmark still run, at a size that says nothing about speed."""

import platform
from pathlib import Path

import pytest

from bench.questions.entities import idle, rate
from bench.servers.peers import counters
from tests.support.proofs import WHOLE, whole_only

CASES = ["huahuo", "app.send", counters.PYKKA] if WHOLE else ["huahuo"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.system() != "Linux", reason="costs are read from /proc"),
]


@pytest.mark.parametrize("case", CASES)
def test_commands_are_counted(case: str, tmp_path: Path) -> None:
    figures = rate(case, entities=2, callers=3, seconds=0.05, folder=tmp_path)
    assert figures.keys() == {"commands", "p50", "p99", "cpu"}
    assert figures["commands"] > 0


@whole_only
def test_an_idle_entity_is_weighed_and_woken(tmp_path: Path) -> None:
    figures = idle(30, tmp_path)
    assert figures.keys() == {"resident", "passivated", "wake_p50", "wake_p99"}
    assert figures["resident"] > 0
