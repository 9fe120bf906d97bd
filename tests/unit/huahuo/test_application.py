"""What `Huahuo` takes, and how an application is found by its name."""

from pathlib import Path

import pytest

from huahuo import ConfigError, Huahuo
from huahuo.app.application import load
from huahuo.mailcheck import mail


def test_plugins_of_a_generator_are_kept() -> None:
    plugin = mail()
    assert plugin in Huahuo(plugins=(one for one in [plugin])).plugins()


def test_a_directory_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="--app shop:app: this directory is gone"):
        load("shop:app")
