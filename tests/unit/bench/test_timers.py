"""The timer benchmark still runs, at a size that says nothing about speed."""

import platform
from pathlib import Path

import pytest

from bench.questions.timers import fill, measure


@pytest.mark.skipif(platform.system() != "Linux", reason="the memory of a process is read from /proc")
async def test_every_figure_of_the_timer_benchmark_is_measured(tmp_path: Path) -> None:
    await fill(tmp_path / "data", entities=20, each=5)
    figures = await measure(tmp_path / "data", firings=100)
    assert set(figures) == {"start_s", "service_mb", "fired_per_s", "cpu", "peak_mb"}
