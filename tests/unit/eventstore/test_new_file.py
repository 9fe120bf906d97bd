"""A file that is made once."""

import errno
import os
from pathlib import Path

import pytest

from huahuo.eventstore.atomic_file import make_file


def test_on_a_full_disk_nothing_is_left_and_the_next_try_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            make_file(path, b"one\n")
    assert not list(tmp_path.iterdir())
    make_file(path, b"two\n")
    assert path.read_bytes() == b"two\n"


def test_a_second_one_that_was_faster_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    synced = os.fsync

    def other_first(descriptor: int) -> None:
        synced(descriptor)
        path.write_bytes(b"other\n")

    monkeypatch.setattr(os, "fsync", other_first)
    with pytest.raises(FileExistsError):
        make_file(path, b"one\n")
    assert path.read_bytes() == b"other\n"
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_args: object, **_how: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", none)
    make_file(tmp_path / "key", b"one\n")
    assert (tmp_path / "key").read_bytes() == b"one\n"
    assert [one.name for one in tmp_path.iterdir()] == ["key"]
