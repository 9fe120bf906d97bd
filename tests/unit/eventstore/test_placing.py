"""What is put into a directory is the log that was made, and nothing of one that was there before."""

import os
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.backup import placing, put_back
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.mark import MARK
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import MASTER_KEY


async def opened(directory: Path) -> SqliteLog:
    """A log with one event."""
    log = await SqliteLog.open(directory, ambient=FakeAmbient(1), master_key=MASTER_KEY, build="test")
    await log.append(Append(ts_ms=0, events=(NewEvent("s", "said", b'{"n":1}'),)))
    return log


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
async def test_what_an_earlier_log_left_is_not_read_into_the_one_that_is_put_in_place(
    tmp_path: Path, suffix: str
) -> None:
    left = tmp_path / (DATABASE + suffix)
    left.write_bytes(b"of another log")
    with (
        pytest.raises(EventStoreError, match="move it away"),
        placing(tmp_path, tmp_path / "backup") as staged,
    ):
        await (await opened(staged)).close()
    assert left.read_bytes() == b"of another log"
    assert not (tmp_path / DATABASE).exists()
    left.write_bytes(b"")
    with placing(tmp_path, tmp_path / "backup") as staged:
        await (await opened(staged)).close()
    assert (tmp_path / DATABASE).exists()


async def test_a_log_whose_file_lacks_what_was_written_last_is_not_put_in_place(tmp_path: Path) -> None:
    async def place() -> None:
        with placing(tmp_path, tmp_path / "backup") as staged:
            await (await opened(staged)).close()
            (staged / f"{DATABASE}-wal").write_bytes(b"what could not be folded in")

    with pytest.raises(EventStoreError, match="is not empty"):
        await place()
    assert not (tmp_path / DATABASE).exists()


@pytest.mark.parametrize("where", ["another folder", "nowhere", "a file"])
async def test_what_is_in_the_way_of_a_restore_is_named_and_stays(tmp_path: Path, where: str) -> None:
    folder, staged = tmp_path / "folder", tmp_path / "data" / "restoring"
    staged.parent.mkdir()
    if where == "a file":
        staged.write_bytes(b"mine")
    else:
        staged.symlink_to(folder)
    if where == "another folder":
        folder.mkdir()
        (folder / DATABASE).write_bytes(b"mine")
    with pytest.raises(EventStoreError, match="restoring is in the way"), placing(staged.parent, tmp_path):
        pass
    assert staged.is_symlink() or staged.read_bytes() == b"mine"
    if folder.exists():
        assert [file.name for file in folder.iterdir()] == [DATABASE]


async def test_a_restore_beside_a_directory_in_place_of_the_mark_puts_nothing_there(tmp_path: Path) -> None:
    (tmp_path / MARK).mkdir()
    with (
        pytest.raises(EventStoreError, match="is a directory"),
        placing(tmp_path, tmp_path / "backup") as staged,
    ):
        await (await opened(staged)).close()
    assert not (tmp_path / DATABASE).exists()


@pytest.mark.parametrize("name", ["log.db-wal", "backup.json"])
async def test_a_pipe_in_a_backup_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    backup = tmp_path / "backup"
    await (await opened(backup)).close()
    (backup / LOCK).unlink()
    os.mkfifo(backup / name)
    writer = os.open(backup / name, os.O_RDWR)  # a read would wait for its end
    try:
        os.set_blocking(writer, False)
        with pytest.raises((EventStoreError, Corrupt), match="is no file"):
            await put_back(backup, tmp_path / "data")
    finally:
        os.close(writer)


async def test_a_backup_that_lies_where_a_restore_works_is_refused_and_stays(tmp_path: Path) -> None:
    for backup in (tmp_path / "restoring", tmp_path / "restoring" / "yesterday"):
        backup.mkdir()
        (backup / DATABASE).write_bytes(b"the only copy")
        with pytest.raises(EventStoreError, match="move it away"), placing(tmp_path, backup):
            pass
        assert (backup / DATABASE).read_bytes() == b"the only copy"
