"""The directory benchmark still runs, at a size that says nothing about speed."""

import platform
from pathlib import Path

import pytest

from bench.questions.directory import measure


@pytest.mark.skipif(platform.system() != "Linux", reason="the memory of a process is read from /proc")
async def test_every_figure_of_the_directory_benchmark_is_measured(tmp_path: Path) -> None:
    figures = await measure(tmp_path / "log", residents=300, commands=100)
    per_second = {name: value for name, value in figures.items() if name.endswith("_per_s")}
    assert len(per_second) == 6
    assert all(isinstance(value, int) and value > 0 for value in per_second.values())
