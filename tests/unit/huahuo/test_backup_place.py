"""Doctor says why backups cannot go where they are to go."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.cli.doctor import unusable

_NOBODY = 65534


@pytest.fixture
def not_root() -> Iterator[None]:
    before = os.geteuid()
    if before == 0:
        os.seteuid(_NOBODY)
    yield
    os.seteuid(before)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def test_a_directory_behind_one_that_is_closed_to_this_user_is_told_with_what_to_do(
    closed: Path, not_root: None
) -> None:
    assert "give it to the service's user" in unusable(closed / "backups" / "daily")


def test_a_directory_that_is_not_there_yet_can_be_made(tmp_path: Path) -> None:
    assert unusable(tmp_path / "backups" / "daily") == ""
