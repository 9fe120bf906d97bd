"""A directory on a full disk: what cannot be opened is not harmed, and what is said is the cause."""

import contextlib
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.backup import back_up
from huahuo.eventstore.errors import NoRoom
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import append, event
from tests.support.worlds.sqlite_logs import opened


@contextlib.contextmanager
def full(monkeypatch: pytest.MonkeyPatch, bytes_max: int = 0) -> Iterator[None]:
    """No file of this process grows beyond `bytes_max`, and the disk says that nothing is free."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as disk:
        disk.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_backup_without_room_says_so_and_does_not_call_the_log_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, target = await opened(tmp_path / "log"), tmp_path / "backup"
    await log.append(append(event("a")))
    source = tmp_path / "log" / DATABASE
    for bytes_max in (0, 16_384):
        with full(monkeypatch, bytes_max), pytest.raises(NoRoom, match=f"the disk of {target} is full"):
            await back_up(source, target, FakeAmbient(1))
        assert not target.exists()
    assert (await back_up(source, target, FakeAmbient(1))).position == 1
    await log.close()


async def test_a_directory_that_was_closed_and_one_that_is_new_say_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await opened(tmp_path / "closed")
    await log.append(append(event("a")))
    await log.close()
    for name in ("closed", "new"):
        with full(monkeypatch), pytest.raises(NoRoom):
            await opened(tmp_path / name)
        log = await opened(tmp_path / name)
        await log.append(append(event("a")))
        await log.close()
