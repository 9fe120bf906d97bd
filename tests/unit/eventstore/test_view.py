"""Reading a log while its service runs, and a directory whose files must not change."""

import errno
import shutil
from pathlib import Path

import pytest

from huahuo.eventstore.errors import Closed, EventStoreError
from huahuo.eventstore.sqlite.mark import MARK
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
from tests.support.worlds.logs import append, event
from tests.support.worlds.sqlite_logs import opened


def state(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


async def test_a_copy_is_left_as_it_is_to_the_byte(tmp_path: Path) -> None:
    log = await opened(tmp_path / "live")
    await log.append(append(*[event("a")] * 500))
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "live", copy, ignore=shutil.ignore_patterns("*-shm"))
    await log.close()
    copy.chmod(0o500)
    before = state(copy)
    assert f"{DATABASE}-wal" in before, "the newest events are only there"
    view = await SqliteView.open(copy)
    assert (view.live, view.position, await view.verify()) == (False, 500, 500)
    await view.close()
    await view.close()
    assert state(copy) == before
    with pytest.raises(Closed):
        await view.read("a", 0, events_max=1)


@pytest.mark.parametrize(
    ("fault", "name", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), DATABASE, "cannot be used: Permission denied"),
        (PermissionError(errno.EACCES, "Permission denied"), MARK, "do it as the user that the service runs"),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), MARK, "cannot be used: Is a directory$"),
        (OSError(errno.ENOSPC, "No space left on device"), DATABASE, "let TMPDIR name another directory"),
    ],
)
async def test_a_file_that_cannot_be_copied_for_reading_is_an_error_that_names_it_and_leaves_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError, name: str, said: str
) -> None:
    """The tests may run as root, which may read all."""
    data, copies = tmp_path / "data", tmp_path / "copies"
    await (await opened(data)).close()
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    copyfile = shutil.copyfile

    def copied(source: Path, target: Path) -> Path:
        if source.name == name:
            fault.filename = str(source)
            raise fault
        return copyfile(source, target)

    before = state(data)
    with monkeypatch.context() as outside:
        outside.setattr(shutil, "copyfile", copied)
        with pytest.raises(EventStoreError, match=said) as told:
            await SqliteView.open(data)
    assert str(data) in str(told.value)
    assert not list(copies.iterdir())
    assert state(data) == before


async def test_a_directory_without_a_log_is_an_error_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(EventStoreError, match="no log"):
        await SqliteView.open(tmp_path)
    assert state(tmp_path) == {}
    (tmp_path / DATABASE).write_bytes(b"something else" * 1000)
    with pytest.raises(EventStoreError):
        await SqliteView.open(tmp_path)
