"""The audit benchmark still runs, at a tiny size; its figures mean nothing here."""

import asyncio
from pathlib import Path

import pytest

from bench import audit
from bench.audit import measure


@pytest.mark.slow
def test_every_figure_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(audit.__file__).parents[1])  # it starts itself as a module
    result = asyncio.run(measure(tmp_path / "log", 5000, 1, 0.1))
    assert result["verify"]["events"] >= 5000
    assert result["audit"]["entity"]["matches"] > 0
    assert result["audit"]["text, two words"]["matches"] != 0
    assert result["appends"]["beside/alone, median"] > 0
