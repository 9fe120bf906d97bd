"""What `Huahuo` takes, and how an application is found by its name."""

from pathlib import Path

import pytest

from huahuo import ConfigError
from huahuo.app.application import load


def test_a_directory_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="--app shop:app: this directory is gone"):
        load("shop:app")
