"""A file that is made once."""

import errno
import os
from pathlib import Path

import pytest

from huahuo.eventstore.atomic_file import make_file


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
