"""Pages that a repair leaves behind are no damage, and hold nothing that is erased later."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.backup import back_up
from huahuo.eventstore.errors import Lost
from huahuo.eventstore.model import Append, NewEvent, Pruning
from huahuo.eventstore.sqlite import page_faults, remaking_events
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.mark import MARK
from huahuo.eventstore.sqlite.mended_opening import OLD_PAGES
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE, PAGE_BYTES
from huahuo.eventstore.sqlite.wal_frames import Frames
from tests.support.worlds.event_leaves import leaves, left, write
from tests.support.worlds.logs import MASTER_KEY
from tests.support.worlds.spoilt import as_killed, opened

ERASED = tuple(range(1, 21))


def unused_pages(directory: Path) -> bool:
    with closing(sqlite3.connect(directory / DATABASE)) as connection:
        return "never used" in connection.execute("PRAGMA integrity_check").fetchone()[0]


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the file cannot be put in its place."""

    def full(_copy: Path, _path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page_faults, "put_in_place", full)


async def damaged(directory: Path) -> Path:
    """A killed log of which one page of events is damaged."""
    await left(directory, "killed")
    write(directory / "killed", leaves(directory / "killed")[3], b"\xff" * 8)
    return directory / "killed"


async def test_a_search_leaves_no_old_page_behind(tmp_path: Path) -> None:
    directory = await damaged(tmp_path)
    mode = (directory / DATABASE).stat().st_mode
    log = await opened(directory)
    assert set(log.corruption.places) == {"the table of events"}
    await log.close()
    assert not unused_pages(directory)
    assert (directory / DATABASE).stat().st_mode == mode


async def test_a_backup_succeeds_after_a_search(tmp_path: Path) -> None:
    log = await opened(await damaged(tmp_path))
    made = await back_up(tmp_path / "killed" / DATABASE, tmp_path / "backup", FakeAmbient(1))
    assert made.position == log.position
    await log.close()


@pytest.mark.usefixtures("no_room")
async def test_old_pages_that_stay_are_told_and_keep_no_backup_from_its_end(tmp_path: Path) -> None:
    log = await opened(await damaged(tmp_path))
    assert "No space left on device" in log.corruption.places[OLD_PAGES]
    made = await back_up(tmp_path / "killed" / DATABASE, tmp_path / "backup", FakeAmbient(1))
    assert made.position == log.position
    await log.close()
    assert unused_pages(tmp_path / "killed")
    assert find_damage(tmp_path / "killed" / DATABASE) == []


@pytest.mark.usefixtures("no_room")
async def test_a_power_cut_after_a_search_does_not_lock_the_log(tmp_path: Path) -> None:
    log = await opened(await damaged(tmp_path))
    shutil.copytree(tmp_path / "killed", tmp_path / "off")  # another directory: every page is read
    await log.close()
    log = await opened(tmp_path / "off")
    assert log.corruption.places == {}
    await log.close()


@pytest.mark.usefixtures("no_room")
async def test_a_loss_can_be_accepted_after_a_search(tmp_path: Path) -> None:
    log = await opened(await damaged(tmp_path))
    as_killed(tmp_path / "killed", tmp_path / "older")
    position = log.position
    await log.append(Append(ts_ms=0, events=(NewEvent("s0", "t", b"{}"),)))
    await log.close()
    shutil.copy(tmp_path / "killed" / MARK, tmp_path / "older" / MARK)
    with pytest.raises(Lost):
        await opened(tmp_path / "older")
    log = await SqliteLog.open(
        tmp_path / "older", ambient=FakeAmbient(2), master_key=MASTER_KEY, build="b", accept_loss=True
    )
    assert log.position == position
    await log.close()


@pytest.mark.parametrize("gives_back", [True, False])
async def test_events_erased_after_a_search_are_not_served_after_another_one(
    tmp_path: Path, gives_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await opened(tmp_path / "log")
    for n in range(100):
        await log.append(
            Append(ts_ms=0, events=(NewEvent("secret", "t", b"erase me %03d" % n + b"x" * 200),))
        )
    as_killed(tmp_path / "log", tmp_path / "once")
    await log.close()
    write(tmp_path / "once", leaves(tmp_path / "once")[1], b"\xff" * 8)
    if not gives_back:
        monkeypatch.setattr(page_faults, "put_in_place", lambda copy, path: None)
    log = await opened(tmp_path / "once")
    await log.append(Append(ts_ms=0, prune=Pruning(ERASED, {"secret": 20})))
    as_killed(tmp_path / "once", tmp_path / "twice")
    await log.close()
    content = (tmp_path / "once" / DATABASE).read_bytes()
    write(tmp_path / "twice", leaves(tmp_path / "twice")[-1], b"\xff" * 8)
    log = await opened(tmp_path / "twice")
    assert [event.seq for event in await log.read("secret", 20, events_max=1)] == [21]
    await log.close()
    with closing(sqlite3.connect(tmp_path / "twice" / DATABASE)) as connection:
        both = connection.execute("SELECT count(*) FROM event JOIN pruned USING (position)").fetchone()
    assert both == (0,)
    if gives_back:
        assert b"erase me 005" not in content


async def test_a_start_reads_no_frame_of_a_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_path: Path) -> Frames:
        raise AssertionError

    await left(tmp_path, "closed")
    monkeypatch.setattr(remaking_events, "read_frames", never)
    assert remaking_events.complete_file(tmp_path / "closed" / DATABASE) == 0


async def test_a_refused_start_leaves_a_file_that_was_cut_off_as_it_was(tmp_path: Path) -> None:
    await left(tmp_path, "killed")
    path = tmp_path / "killed" / DATABASE
    cut = path.read_bytes()[: -6 * PAGE_BYTES - 100]
    path.write_bytes(cut)
    with pytest.raises(Lost):
        await opened(tmp_path / "killed")
    assert path.read_bytes() == cut
