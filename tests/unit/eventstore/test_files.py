"""A file of the log that is deleted, moved or replaced under its writer ends writing for good."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from huahuo.eventstore.errors import Detached
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
