"""A log file is made smaller by a copy beside it: no memory by its size, and a failure loses nothing."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.care.backup import shrink
from huahuo.eventstore.errors import EventStoreError, InUse
from huahuo.eventstore.sqlite import damage
from huahuo.eventstore.sqlite.damage import COPY, find_damage
from huahuo.eventstore.sqlite.directory_lock import left_of
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.spoilt import filled
from tests.support.worlds.sqlite_logs import opened

_MIB = 1 << 20


async def large(directory: Path, mib: int) -> Path:
    """A log of `mib` MiB, and as much free room in its file."""
    await filled(directory)
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        for n in range(2 * mib):
            connection.execute("INSERT INTO keyframe VALUES ('s', 'f', '', ?, randomblob(?), 0)", (n, _MIB))
        connection.execute("DELETE FROM keyframe WHERE seq % 2")
    return directory / DATABASE


async def test_what_the_log_holds_and_how_it_was_left_stay(tmp_path: Path) -> None:
    path = await large(tmp_path, 1)
    left, mode = left_of(tmp_path), path.stat().st_mode
    shrink(path)
    assert (left_of(tmp_path), path.stat().st_mode) == (left, mode)
    log = await opened(tmp_path)
    assert [log.head(f"s{n}").seq for n in range(3)] == [1, 1, 1]
    await log.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM keyframe")
        connection.commit()
    assert find_damage(path) == []


async def test_a_log_that_is_open_is_not_replaced(tmp_path: Path) -> None:
    path = await large(tmp_path, 1)
    log = await opened(tmp_path)
    with pytest.raises(InUse):
        shrink(path)
    await log.close()


async def test_a_copy_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_copy: Path, _path: Path) -> None:
        raise OSError(28, "No space left on device")

    path = await large(tmp_path, 1)
    size = path.stat().st_size
    monkeypatch.setattr(damage, "put_in_place", full)
    with pytest.raises(EventStoreError, match="could not be made smaller: No space left on device"):
        shrink(path)
    assert path.stat().st_size == size
    assert not (tmp_path / COPY).exists()
