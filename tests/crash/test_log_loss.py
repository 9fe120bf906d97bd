"""A loss that SQLite would pass over in silence is noticed: a log that ends before its mark is refused.

A child process writes and is killed; its files are damaged as a disk or a person would damage them.
"""

import re
import shutil
import signal
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient, SystemAmbient
from huahuo.eventstore.care.salvage import LOSS_STRIDE, salvage
from huahuo.eventstore.core.reader import receipt
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.errors import Lost
from huahuo.eventstore.model import Append
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.mark import MARK, read_marks
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.eventstore.sqlite.wal import read_frames
from tests.support.drivers.log_parent import child, lines, opened
from tests.support.worlds.logs import MASTER_KEY, append, event

WAL = f"{DATABASE}-wal"
ACKS = 30
_FRAME_BYTES = 24 + 8192


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose writer was killed after `ACKS` acknowledged appends, one by one."""
    directory = tmp_path_factory.mktemp("killed") / "log"
    with child(directory, "appends", 0, 1_000_000, 1) as process:
        acks = 0
        for line in lines(process):
            acks += line.startswith("acked")
            if acks == ACKS:
                process.send_signal(signal.SIGKILL)
                break
    return directory


@pytest.fixture
def directory(killed: Path, tmp_path: Path) -> Path:
    """A copy that counts as the original, since its lock file names its own inode."""
    copy = tmp_path / "log"
    shutil.copytree(killed, copy)
    lock = copy / LOCK
    lock.write_bytes(
        lock.read_bytes().replace(
            str((killed / LOCK).stat().st_ino).encode(), str(lock.stat().st_ino).encode()
        )
    )
    return copy


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x40
    file.write_bytes(data)


def flip_in_the_middle(directory: Path) -> None:
    """Damage a frame after those that made the tables and before the last commits."""
    flip(directory / WAL, 32 + read_frames(directory / WAL).committed * 2 // 3 * _FRAME_BYTES + 4000)


def mark_of(directory: Path) -> int:
    marks = read_marks(directory)
    assert marks
    return marks[0].position


async def refused(directory: Path) -> str:
    """Check that opening is refused and changes no file; returns the error's text."""
    before = contents(directory)
    with pytest.raises(Lost) as caught:
        await opened(directory)
    assert contents(directory) == before
    return str(caught.value)


async def older_copy_put_back(log: SqliteLog, directory: Path) -> None:
    """Write two events to the end of `log`, and leave the database as it was after the first."""
    await log.append(append(event("a")))
    await log.close()
    older = (directory / DATABASE).read_bytes()
    log = await opened(directory)
    await log.append(append(event("a")))
    await log.close()
    (directory / DATABASE).write_bytes(older)


async def test_a_killed_writer_leaves_a_mark_that_the_log_satisfies(directory: Path) -> None:
    assert mark_of(directory) >= 2 * ACKS
    log = await opened(directory)
    assert log.position >= 2 * ACKS
    await log.close()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
async def test_a_flipped_byte_in_the_write_ahead_log_is_refused_and_said(
    directory: Path, share: float
) -> None:
    whole = read_frames(directory / WAL).committed
    frame = int(whole * share)
    flip(directory / WAL, 32 + frame * _FRAME_BYTES + 4000)
    said = await refused(directory)
    assert f"log.mark says {mark_of(directory)}, the log ends at " in said
    first_bad = re.search(rf"frame {frame + 1} of log.db-wal is the first bad one, (\d+) follow it", said)
    assert first_bad, said
    assert int(first_bad[1]) >= whole - frame - 1  # the kill may have left some of an unfinished commit


@pytest.mark.parametrize("at", [0, 3, 8, 17, 25, 32 + 9, 32 + 17])
async def test_a_flipped_byte_in_a_header_is_refused(directory: Path, at: int) -> None:
    flip(directory / WAL, at)
    assert "log.mark says" in await refused(directory)


async def test_a_write_ahead_log_that_is_gone_or_cut_is_refused(directory: Path) -> None:
    wal = (directory / WAL).read_bytes()
    (directory / WAL).unlink()
    assert "log.mark says" in await refused(directory)
    (directory / WAL).write_bytes(wal[: 32 + 10 * _FRAME_BYTES])
    assert "log.mark says" in await refused(directory)


async def test_a_database_that_is_gone_is_refused(directory: Path) -> None:
    for name in (DATABASE, WAL, f"{DATABASE}-shm"):
        (directory / name).unlink()
    assert f"log.mark says {mark_of(directory)}, the log ends at 0" in await refused(directory)


async def test_frames_alone_prove_the_damage_where_the_mark_is_lost_too(directory: Path) -> None:
    (directory / MARK).unlink()
    flip(directory / WAL, 32 + 5 * _FRAME_BYTES + 4000)
    assert "frame 6 of log.db-wal is the first bad one" in await refused(directory)


async def test_frames_that_follow_a_torn_one_are_a_power_cut_where_the_note_of_their_writer_is_lost(
    directory: Path,
) -> None:
    written = mark_of(directory)
    flip_in_the_middle(directory)
    (directory / MARK).unlink()
    (directory / LOCK).write_bytes(b"")
    log = await opened(directory)
    position = log.position
    await log.close()
    assert 0 < position < written


@pytest.mark.parametrize("mark", [None, b"", b"\xff" * 1024], ids=["gone", "empty", "garbage"])
async def test_a_lost_mark_starts_with_a_warning(
    directory: Path, mark: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / MARK).unlink()
    if mark is not None:
        (directory / MARK).write_bytes(mark)
    log = await opened(directory)
    assert log.position >= 2 * ACKS
    assert "mark_lost" in "".join(capsys.readouterr())
    await log.close()
    assert mark_of(directory) == log.position


async def test_a_torn_slot_leaves_the_other_one(directory: Path) -> None:
    before = mark_of(directory)
    flip(directory / MARK, 40)
    assert before - 4 <= mark_of(directory) <= before


async def test_an_older_copy_put_back_under_the_same_id_is_refused(tmp_path: Path) -> None:
    await older_copy_put_back(await opened(tmp_path), tmp_path)
    assert "log.mark says 2, the log ends at 1" in await refused(tmp_path)


async def test_a_salvage_of_a_log_that_lost_its_end_keeps_its_positions_and_reuses_no_number(
    directory: Path, tmp_path: Path
) -> None:
    before = await SqliteView.open(directory)
    log_id, mark = before.log_id, mark_of(directory)
    await before.close()
    flip_in_the_middle(directory)
    await refused(directory)
    left, into, ambient = contents(directory), tmp_path / "salvaged", SystemAmbient()
    found = salvage(directory, into, Vault(MASTER_KEY, ambient).mark())
    assert contents(directory) == left
    assert found.position >= mark
    assert found.lost
    log = await SqliteLog.open(into, ambient=ambient, master_key=MASTER_KEY, build="parent", restored=True)
    assert log.log_id != log_id
    assert log.position == found.position
    await log.append(Append(ts_ms=1, events=(receipt(found.lost, {}, 1),)))
    assert await log.verify() == log.position
    assert log.take("mailbox") > LOSS_STRIDE, "of a counter that was in no commit, too"
    await log.append(append(event("a")))
    position = log.position
    await log.close()
    again = salvage(into, tmp_path / "again", Vault(MASTER_KEY, ambient).mark())
    assert (again.position, again.lost) == (position, [])


async def test_a_salvage_moves_counters_on_that_were_committed(tmp_path: Path) -> None:
    log = await opened(tmp_path / "log")
    assert log.take("mail", 5) == 1
    await older_copy_put_back(log, tmp_path / "log")
    ambient = SystemAmbient()
    salvage(tmp_path / "log", tmp_path / "new", Vault(MASTER_KEY, ambient).mark())
    log = await SqliteLog.open(
        tmp_path / "new", ambient=ambient, master_key=MASTER_KEY, build="parent", restored=True
    )
    assert log.take("mail") == LOSS_STRIDE + 6
    await log.close()


async def test_a_read_only_view_reports_the_loss_and_still_opens(directory: Path) -> None:
    view = await SqliteView.open(directory)
    assert view.missing is None
    await view.close()
    flip_in_the_middle(directory)
    view = await SqliteView.open(directory)
    assert view.missing is not None
    assert "acknowledged events are missing" in view.missing
    assert view.position > 0
    await view.close()


async def test_a_restored_log_gets_a_mark_of_its_own(directory: Path) -> None:
    flip_in_the_middle(directory)
    log = await SqliteLog.open(
        directory, ambient=FakeAmbient(7), master_key=MASTER_KEY, build="parent", restored=True
    )
    position = log.position
    await log.close()
    marks = read_marks(directory)
    assert marks
    assert (marks[0].log_id, marks[0].position) == (log.log_id, position)
