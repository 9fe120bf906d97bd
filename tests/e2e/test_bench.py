"""Benchmarks still run: `--quick` says nothing about speed, but nothing may be lost or doubled."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import QUESTIONS, question
from bench.clients.receivers import IN_PYTHON, build
from bench.harness.harness import OURS, Options, Sheet, StormSizes
from bench.questions import commands, storms
from bench.questions.fan_out import METRICS, one
from bench.servers import accepting, peers
from tests.support.patience import WITHIN_S
from tests.support.proofs import WHOLE

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
linux = pytest.mark.skipif(sys.platform != "linux", reason="costs are read from /proc")


def options(folder: Path, receiver: list[str]) -> Options:
    return Options(quick=True, rounds=1, folder=folder, receiver=receiver, peers=frozenset({OURS}))


_LONG = {"cluster", "commands", "same_rate", "storms", "workers"}
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
    sheets = importlib.import_module(f"bench.questions.{name}").run(
        options(tmp_path, build(tmp_path / "tools"))
    )
    assert sheets
    for sheet in sheets:
        assert sheet.samples, sheet.title
        for case, figures in sheet.samples.items():
            for figure in ("lost", "doubled"):
                assert figures.get(figure, [0]) == [0], f"{sheet.title}: {case} {figure}"


@pytest.mark.timeout(400)
@linux
def test_the_storm_of_one_user_loses_no_bystanders_event(tmp_path: Path) -> None:
    """Two requests of the short form; `make check-all` runs each of them, also by several users."""
    sizes = StormSizes(requests=("lists", "http pages"), variants=("not reading",), users=(1,))
    [sheet] = storms.run(replace(options(tmp_path, []), storms=sizes))
    assert sheet.samples["lists, not reading"]["lost"] == [0]
    assert sheet.samples["http pages, not reading"]["lost"] == [0]


_MEASURED = [name for name in peers.ALL if name != OURS]

_FEW = {"floor", "huahuo-transport", "nats", "ws"}
"""Of each way to start and drive a peer one: all others in `make check-all`."""


@pytest.mark.parametrize("name", [name for name in _MEASURED if WHOLE or name in _FEW])
@linux
def test_a_peer_that_is_installed_can_be_measured(name: str, tmp_path: Path) -> None:
    if why := peers.ALL[name]().missing():
        pytest.skip(why)
    sheet = Sheet("fan-out", METRICS)
    one(name, sheet, 3, tmp_path, options(tmp_path, build(tmp_path / "tools")))
    assert sheet.samples[name]["p50"][0] > 0
    assert sheet.samples[name]["lost"] == [0]


_ACCEPTING = [name for name, system in accepting.ALL.items() if not system.missing()]


@pytest.mark.parametrize("name", [name for name in _ACCEPTING if WHOLE or name == "jetstream"])
@linux
def test_a_system_that_accepts_events_durably_is_measured_beside(name: str, tmp_path: Path) -> None:
    ours = Sheet("huahuo", commands.LEAN_METRICS)
    for case in commands.BESIDE:
        ours.add(case, commands=1.0)
    asked = replace(options(tmp_path, []), peers=frozenset({OURS, name}))
    sheets = commands.beside(ours, asked)
    assert [sheet.title for sheet in sheets] == [f"durable publishes, {case}" for case in commands.BESIDE]
    for sheet in sheets:
        assert not sheet.absent
        assert sheet.samples[name]["refused"] == [0]
    assert sum(sheet.samples[name]["commands"][0] for sheet in sheets) > 0


def test_huahuo_alone_is_measured_beside_nothing(tmp_path: Path) -> None:
    assert commands.beside(Sheet("huahuo", commands.LEAN_METRICS), options(tmp_path, [])) == []


@linux
def test_the_receiver_in_python_counts_what_the_one_in_c_counts(tmp_path: Path) -> None:
    sheet = Sheet("fan-out", METRICS)
    one(OURS, sheet, 3, tmp_path, options(tmp_path, list(IN_PYTHON)))
    assert sheet.samples[OURS]["deliveries"][0] > 0
    assert sheet.samples[OURS]["lost"] == [0]
    assert sheet.samples[OURS]["doubled"] == [0]


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
