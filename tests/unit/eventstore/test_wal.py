"""Room written ahead in the write-ahead log: when, how much, and that it is never read as frames."""

import errno
import os
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.wal import WAL_ROOM_BYTES
from tests.support.worlds.logs import MASTER_KEY, append, event


async def opened(directory: Path) -> SqliteLog:
    """A log whose write-ahead log is short, because it was created and closed once before."""
    for _ in range(2):
        log = await SqliteLog.open(directory, ambient=FakeAmbient(1), master_key=MASTER_KEY, build="b")
        if (directory / "made").exists():
            break
        await log.close()
        (directory / "made").touch()
    return log


def wal_of(directory: Path) -> Path:
    return directory / f"{DATABASE}-wal"


async def sizes_of(log: SqliteLog, directory: Path, count: int) -> list[int]:
    """The size of the write-ahead log after each of `count` lone appends and the care that followed."""
    sizes: list[int] = []
    for number in range(count):
        await log.append(append(event("a", b"body-%06d" % number)))
        await log.writer.settled()
        sizes.append(wal_of(directory).stat().st_size)
    return sizes


async def test_a_write_ahead_log_of_zeros_alone_is_an_empty_one(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    await log.append(append(event("a")))
    await log.close()
    assert not wal_of(tmp_path).exists()
    wal_of(tmp_path).write_bytes(bytes(WAL_ROOM_BYTES))
    log = await opened(tmp_path)
    assert await log.verify() == 1
    await log.append(append(event("a")))
    await log.close()
    log = await opened(tmp_path)
    assert await log.verify() == 2
    await log.close()


async def test_without_room_appends_go_on_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await opened(tmp_path)
    tried: list[int] = []

    def full(file: int, data: bytes, at: int) -> int:
        if len(data) < 100:  # the mark, whose room was allocated when the log was opened
            return pwrite(file, data, at)
        tried.append(at)
        if len(tried) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(file, data[:1000], at)

    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    sizes = await sizes_of(log, tmp_path, 20)
    assert len(tried) == 2, "tried once, half done, not tried again"
    assert sizes[0] == tried[0], "what was taken is given back"
    assert sizes == sorted(set(sizes)), "each append makes its own room"
    assert await log.verify() == 20
    await log.close()
