"""Benchmarks still run: `--quick` says nothing about speed, but nothing may be lost or doubled."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import peers, rounds
from bench.__main__ import QUESTIONS, question
from bench.questions import fan_out
from bench.receivers import build
from bench.sheets import OURS, Options, Sheet
from tests.support.patience import WITHIN_S
from tests.support.proofs import WHOLE

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
linux = pytest.mark.skipif(sys.platform != "linux", reason="costs are read from /proc")


def options(folder: Path) -> Options:
    return Options(quick=True, folder=folder, receiver=build(), peers=frozenset({OURS}))


_LONG = {"cluster", "commands", "many_mailboxes", "same_rate", "storms", "workers"}
"""Of two seconds of processor time and more each, or much like another one: in `make check-all`."""


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_benchmark_asks_a_question_and_guesses_its_answer(name: str) -> None:
    guess = importlib.import_module(f"bench.questions.{name}").__doc__ or ""
    assert "?" in question(name)
    assert "guess before the first run" in guess


_MORE = {"storms": 1800}
"""Seconds for a question that starts many services: `storms` starts 58, one for each case."""
_ASKED = [
    pytest.param(name, marks=pytest.mark.timeout(_MORE.get(name, 400)))
    for name in QUESTIONS
    if WHOLE or name not in _LONG
]


@pytest.mark.parametrize("name", _ASKED)
@linux
def test_the_question_is_answered_and_no_event_is_lost_or_doubled(name: str, tmp_path: Path) -> None:
    sheets = importlib.import_module(f"bench.questions.{name}").run(options(tmp_path))
    assert sheets
    for sheet in sheets:
        assert sheet.samples, sheet.title
        for case, figures in sheet.samples.items():
            for figure in ("lost", "doubled"):
                assert figures.get(figure, [0]) == [0], f"{sheet.title}: {case} {figure}"


_MEASURED = [name for name in peers.ALL if name != OURS]

_FEW = {"floor", "nats", "ws"}
"""Of each way to start and drive a peer one: all others in `make check-all`."""


@pytest.mark.parametrize("name", [name for name in _MEASURED if WHOLE or name in _FEW])
@linux
def test_a_peer_that_is_installed_can_be_measured(name: str, tmp_path: Path) -> None:
    if why := peers.ALL[name]().missing():
        pytest.skip(why)
    sheet = Sheet("fan-out", fan_out.METRICS)
    asked = replace(options(tmp_path), peers=frozenset({name}))
    rounds.by_peer(sheet, (name,), rounds.group, 3, fan_out.measure, asked)
    assert sheet.samples[name]["p50"][0] > 0
    assert sheet.samples[name]["lost"] == [0]


@linux
def test_the_command_writes_results_without_paths_or_host_names(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "bench",
        "append",
        "--quick",
        "--peers",
        "none",
        "--results",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WITHIN_S)
    assert "append" in done.stdout
    (path,) = tmp_path.glob("append-*.json")
    text = path.read_text(encoding="utf-8")
    found = json.loads(text)
    assert {"commit", "cores", "cpu", "python", "sqlite"} <= found["machine"].keys()
    assert str(Path.cwd()) not in text
    assert found["sheets"][0]["samples"]
