"""A row that another program deletes leaves nothing that fails a check: the write itself is told of."""

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from huahuo.eventstore.model import RowPut
from huahuo.eventstore.sqlite.directory_lock import (
    AFTER_A_KILL,
    LOCK,
    DirectoryLock,
    Stamp,
    was_written,
)
from huahuo.eventstore.sqlite.log import SqliteLog
from tests.support.worlds.logs import append, event
from tests.support.worlds.sqlite_logs import opened, sql

DELETE = "DELETE FROM projection WHERE tbl = 'orders' AND key = CAST('3' AS BLOB)"
SECOND_NS = 1_000_000_000


async def put(log: SqliteLog, number: int) -> None:
    row = RowPut("orders", "", b"%d" % number, b"{}")
    await log.append(msgspec.structs.replace(append(event("a")), rows=(row,)))


@pytest.fixture
async def closed(tmp_path: Path) -> Path:
    directory = tmp_path / "log"
    log = await opened(directory)
    for number in range(5):
        await put(log, number)
    await log.close()
    return directory


async def told(directory: Path) -> str:
    log = await opened(directory)
    await log.close()
    return log.written_by_others


def killed(directory: Path, copy: Path) -> Path:
    """A copy of the directory of an open log, as if its process had been killed now."""
    shutil.copytree(directory, copy)
    lock = copy / LOCK
    lock.write_bytes(json.dumps(json.loads(lock.read_bytes()) | {"inode": lock.stat().st_ino}).encode())
    return copy


async def test_a_row_that_was_deleted_after_the_service_was_killed_is_told_of(
    closed: Path, tmp_path: Path
) -> None:
    log = await opened(closed)
    await put(log, 7)
    changed, started, read = (killed(closed, tmp_path / name) for name in ("changed", "started", "read"))
    await log.close()
    sql(changed, DELETE)
    DirectoryLock(changed).leave(None)  # as of a command that only looks
    assert await told(changed) == AFTER_A_KILL
    assert await told(changed) == ""
    assert await told(started) == ""
    DirectoryLock(read).leave(None)
    sql(read, DELETE)
    assert await told(read) == AFTER_A_KILL, "after a look that changed nothing it is known as before"


async def test_a_lock_file_of_another_owner_whose_time_cannot_be_set_closes_cleanly(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object, **_kwargs: object) -> None:
        raise PermissionError

    log = await opened(closed)
    monkeypatch.setattr(os, "utime", refused)
    with capture_logs() as said:
        await log.close()
    assert said == []
    assert DirectoryLock(closed).left.log == log.log_id


@pytest.mark.parametrize(
    ("left", "now", "written"),
    [
        ((1, 8, 3 * SECOND_NS + 5), (1, 8, 3 * SECOND_NS + 5), False),
        ((1, 8, 3 * SECOND_NS + 5), (1, 8, 3 * SECOND_NS + 6), True),
        ((1, 8, 3 * SECOND_NS + 5), (1, 8, 3 * SECOND_NS + 4), False),
        ((1, 8, 3 * SECOND_NS + 5), (1, 9, 3 * SECOND_NS + 5), True),
        ((1, 8, 3 * SECOND_NS + 5), (2, 9, 9 * SECOND_NS + 5), False),
        ((1, 8, 3 * SECOND_NS + 5), (1, 8, 2 * SECOND_NS), False),
        ((1, 8, 3 * SECOND_NS + 5), (1, 8, 6 * SECOND_NS), True),
    ],
    ids=["same", "later", "earlier", "size", "another file", "whole seconds", "later in whole seconds"],
)
def test_a_file_counts_as_written_by_its_size_and_its_time(
    left: tuple[int, int, int], now: tuple[int, int, int], *, written: bool
) -> None:
    assert was_written(Stamp(*left), Stamp(*now)) is written
    assert not was_written(None, Stamp(*now))
    assert not was_written(Stamp(*left), None)
