"""A file of the log that is deleted, moved or replaced under its writer ends writing for good."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Closed, Detached, Lost, Unavailable
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.mark import MARK, read_marks
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import append, event
from tests.support.worlds.sqlite_logs import opened


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    shutil.copyfile(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


@pytest.mark.parametrize("name", [DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", LOCK])
@pytest.mark.parametrize("harm", [delete, move, replace])
async def test_the_commit_is_not_acknowledged_and_no_later_one_is_tried(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    log = await opened(tmp_path)
    for _ in range(70):  # by then the time of the directory is trusted
        await log.append(append(event("a")))
    harm(tmp_path / name)
    with pytest.raises(Unavailable, match=f"{name} was deleted, moved or replaced"):
        await log.append(append(event("a")))
    with pytest.raises(Closed, match=f"{name} was deleted, moved or replaced"):
        await log.append(append(event("a")))
    assert log.head("a").seq == 70
    with pytest.raises(Detached):
        await log.close()


async def test_an_idle_log_says_it_when_it_is_asked(tmp_path: Path) -> None:
    ambient = FakeAmbient(1)
    log = await opened(tmp_path, ambient)
    assert await log.probe() is None
    (tmp_path / DATABASE).unlink()
    ambient.advance(2)
    said = str(await log.probe())
    assert f"{DATABASE} was deleted, moved or replaced" in said
    assert "a node of several starts with its keys, `node.name` and an empty directory" in said
    with pytest.raises(Detached):
        await log.close()


async def test_a_log_that_nobody_wrote_says_it_when_it_is_closed(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    (tmp_path / DATABASE).unlink()
    with pytest.raises(Detached):
        await log.close()


async def test_the_files_of_another_log_at_the_path_are_left_alone(tmp_path: Path) -> None:
    log = await opened(tmp_path / "one")
    await log.append(append(event("a")))
    other = await opened(tmp_path / "two")
    await other.append(append(event("b")))
    shutil.copytree(tmp_path / "two", tmp_path / "image")
    await other.close()
    shutil.rmtree(tmp_path / "one")
    (tmp_path / "image").rename(tmp_path / "one")
    before = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    with pytest.raises(Detached):
        await log.close()
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == before


async def test_the_next_start_does_not_begin_a_new_log_in_silence(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    await log.append(append(event("a")))
    (tmp_path / DATABASE).unlink()
    with pytest.raises(Detached):
        await log.close()
    with pytest.raises(Lost, match=r"log.mark says 1, the log ends at 0"):
        await opened(tmp_path)


@pytest.mark.parametrize("harm", [delete, move, replace])
async def test_a_mark_that_is_gone_is_made_again_by_the_next_commit(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    log = await opened(tmp_path)
    for _ in range(100):
        await log.append(append(event("a")))
    harm(tmp_path / MARK)
    await log.append(append(event("a")))
    marks = read_marks(tmp_path)
    assert marks is not None
    assert marks[0].position == 101
    await log.append(append(event("a")))
    assert max(mark.position for mark in read_marks(tmp_path) or []) == 102
    await log.close()
