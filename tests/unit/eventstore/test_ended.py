"""Ended streams on the disk: the care of a log knows them, and no answer depends on the marks."""

from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.backup import back_up, put_back
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Append, Appended
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
from tests.support.worlds.logs import append, event, looped
from tests.support.worlds.sqlite_logs import opened, sql


async def filled(directory: Path) -> None:
    """Three streams with two events each; `b` and `c` ended."""
    log = await opened(directory)
    await log.append(append(*(event(stream) for stream in "abcabc")))
    await log.append(Append(ts_ms=0, ended=("b", "c")))
    await log.close()


async def standing(directory: Path, *, restored: bool = False) -> tuple[int, list[int], list[str]]:
    """How many streams are in memory, the heads of all, and their names."""
    log = await opened(directory, restored=restored)
    found = (log.streams_in_memory, [log.head(name).seq for name in "abc"], log.streams(""))
    await log.close()
    return found


@looped
async def test_a_view_a_backup_and_what_is_restored_from_it_know_ended_streams(tmp_path: Path) -> None:
    await filled(tmp_path / "log")
    view = await SqliteView.open(tmp_path / "log")
    assert [view.head(name).seq for name in "abc"] == [2, 2, 2]
    assert [one.stream for one in await view.read("log", 0, events_max=9)] == list("abcabc")
    assert (await view.verify(), view.streams("")) == (6, ["a", "b", "c"])
    await view.close()
    await back_up(tmp_path / "log" / DATABASE, tmp_path / "backup", FakeAmbient(1))
    assert (await put_back(tmp_path / "backup", tmp_path / "again")).position == 6
    assert await standing(tmp_path / "again", restored=True) == (1, [2, 2, 2], ["a", "b", "c"])


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM ended WHERE stream = 2", "INSERT INTO ended VALUES (1), (99)"],
    ids=["a mark is lost", "marks that nobody made"],
)
@looped
async def test_no_answer_depends_on_the_marks(tmp_path: Path, statement: str) -> None:
    await filled(tmp_path)
    sql(tmp_path, statement)
    _, heads, streams = await standing(tmp_path)
    assert (heads, streams) == ([2, 2, 2], ["a", "b", "c"])
    log = await opened(tmp_path)
    done = await log.append(append(*(event(stream) for stream in "abc")))
    assert isinstance(done, Appended)
    assert [one.seq for one in done.events] == [3, 3, 3]
    assert await log.verify() == 9
    await log.close()


@looped
async def test_a_damaged_name_is_refused_and_noted_and_never_counts_as_a_new_stream(tmp_path: Path) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    sql(tmp_path, "UPDATE stream SET first = 7 WHERE name = 'b'")
    with pytest.raises(Corrupt, match="name of stream"):
        await log.append(append(event("b")))
    assert log.head("b").seq == 0
    assert "b" in (log.corruption.sentence() or "")
    assert log.head("c").seq == 2
    await log.close()
