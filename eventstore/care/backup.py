"""Verified copies of a log: taken while its writer runs, and restored under a new log id.

BACKUP/log.db         everything that the log holds, in one file
BACKUP/backup.json    the log's id, the position at which the copy ends, and what its tables sum up to
DIR/restoring/        where a restored log is made; a killed process leaves it, and the next one begins anew

By the sums of its tables a copy shows that no row was taken out of it: no hash chain covers these rows,
and a row that is gone fits no checksum that could fail. A log that is put into a directory is there under
its new id, or it is not there at all.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from huahuo.eventstore.ambient import Ambient, rfc3339
from huahuo.eventstore.care.verify import Tell, Verified, unheard, verify
from huahuo.eventstore.errors import MISREAD, Corrupt, Damaged, EventStoreError
from huahuo.eventstore.sqlite.connections import connect_reader, no_room
from huahuo.eventstore.sqlite.damage import give_free_pages_back, page_faults
from huahuo.eventstore.sqlite.directory_lock import LOCK, DirectoryLock, Left, left_of, lock_to_change
from huahuo.eventstore.sqlite.mark import MARK, find_end
from huahuo.eventstore.sqlite.schema import DATABASE, SUMMED
from huahuo.eventstore.sqlite.view import SqliteView

type RowSums = dict[str, tuple[int, int]]
"""Of each table whose rows have checksums their number, and the sum of the checksums."""


def _row_sums(path: Path) -> RowSums:
    try:
        with contextlib.closing(connect_reader(path)) as connection:
            return {
                table: connection.execute(f"SELECT count(*), ifnull(sum(crc), 0) FROM {table}").fetchone()  # noqa: S608
                for table in sorted((*SUMMED, "pruned"))
            }
    except sqlite3.DatabaseError as error:
        raise Damaged(0, str(error)) from None


MANIFEST = "backup.json"
_RESTORING = "log.db.restoring"
_SIDE_FILES = ("", "-wal", "-shm", "-journal")


class Manifest(msgspec.Struct, frozen=True):
    """Which log a backup holds, and its end. `rows`: what its tables sum up to."""

    log: str
    position: int
    chain: str
    made_at: str
    rows: RowSums


async def back_up(source: Path, target: Path, ambient: Ambient) -> Manifest:
    """Copy the database `source` into the new directory `target` and check the copy, event by event.

    The source is only read, in one transaction. Its writer can go on; only its write-ahead log is not
    emptied meanwhile.

    Raises:
        EventStoreError: `target` exists already, or cannot be written.
        Damaged: what was copied is not what was written; the target is removed.
    """
    _make(target, fresh=True)
    try:
        _copy(source, target / DATABASE)
        found = await check_file(target / DATABASE)
        made_at, rows = rfc3339(ambient.now_ms()), _row_sums(target / DATABASE)
        manifest = Manifest(found.log_id, found.position, found.chain.hex(), made_at, rows)
        _write(target / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return manifest


async def check_backup(backup: Path, tell: Tell = unheard) -> Verified:
    """Check a backup where it lies. `tell`: as `verify`.

    Raises:
        Damaged: it is not what was written; Corrupt: its manifest or a table is not.
    """
    found = await check_file(backup / DATABASE, tell=tell)
    must_be_as_made(backup, found, backup / DATABASE)
    return found


async def put_back(backup: Path, directory: Path) -> Verified:
    """Restore a backup, or the copy of a data directory, into `directory` once it has passed all checks.

    Then open the log with `restored=True`, which gives it a new id: until then nobody may serve it.

    Raises:
        EventStoreError: there is a log in `directory` already, or none in `backup`.
        Damaged: the backup is not what was written; nothing is put back.
    """
    if (directory / DATABASE).exists():
        raise EventStoreError(f"there is a log in {directory} already: restore into another directory")
    if not (backup / DATABASE).is_file():
        raise EventStoreError(f"there is no backup in {backup}")
    staged = directory / _RESTORING
    _make(directory, fresh=False)
    try:
        for suffix in ("", "-wal"):
            _copy_file(backup / (DATABASE + suffix), staged.with_name(staged.name + suffix))
        _fold(staged)
        manifest = _manifest_of(backup)
        found = await check_file(staged, None if manifest else left_of(backup))
        if manifest is not None:
            _must_be(manifest, found, staged)
        staged.rename(directory / DATABASE)
    except OSError as error:
        raise EventStoreError(f"cannot restore into {directory}: {error.strerror}") from None
    finally:
        for suffix in _SIDE_FILES:
            staged.with_name(staged.name + suffix).unlink(missing_ok=True)
    return found


async def check_file(path: Path, left: Left | None = None, tell: Tell = unheard) -> Verified:
    """Check a database file that no process has open: its pages, its chain, and its end. `tell`: as `verify`.

    Raises:
        Damaged: with the first position that is not what was written.
    """
    try:
        view = await SqliteView.of_file(path)
        try:
            found = await verify(view, path, left=left, tell=tell)
        finally:
            await view.close()
        with contextlib.closing(connect_reader(path)) as connection:
            said = page_faults(connection, "quick_check", 1)
    except (sqlite3.DatabaseError, *MISREAD) as error:
        raise Damaged(0, str(error)) from None
    if said:
        raise Damaged(0, said[0])
    return found


def shrink(path: Path) -> None:
    """Give free pages back to the file system: by a copy in the same directory, which takes its place.

    Raises:
        InUse: another process has the log open. EventStoreError: the file stays as it is.
    """
    lock = lock_to_change(path.parent)
    try:
        why_not = give_free_pages_back(path)
    finally:
        lock.leave(None)
    if why_not:
        raise EventStoreError(f"{path} could not be made smaller: {why_not}")


def _copy(source: Path, target: Path) -> None:
    _write(target, b"")
    reader, writer = connect_reader(source), sqlite3.connect(target, isolation_level=None)
    try:
        reader.backup(writer)
        writer.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.DatabaseError as error:
        raise no_room(error, target.parent) or Damaged(0, str(error)) from None
    finally:
        reader.close()
        writer.close()


def _fold(path: Path) -> None:
    """Move the pages of a write-ahead log into the database file."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    except (sqlite3.DatabaseError, *MISREAD) as error:
        raise no_room(error, path.parent) or Damaged(0, str(error)) from None
    finally:
        connection.close()


def must_be_as_made(backup: Path, found: Verified, path: Path) -> None:
    """Raises Damaged: the database at `path`, that of `backup`, is whole, but not what was backed up.

    Nothing happens if `backup` is no backup, or was opened as a directory since.
    """
    manifest = _manifest_of(backup)
    if manifest is not None:
        _must_be(manifest, found, path)


def taken_out_of(backup: Path, found: Verified) -> str | None:
    """What is not in a backup any more that was opened as a directory since. None: nothing that is known.

    `found`: what `put_back` found there. It restores such a backup as it was left.
    """
    try:
        manifest = _read_manifest(backup)
    except Corrupt as error:
        return str(error)
    if manifest is None or manifest.log != found.log_id:
        return None
    if find_end(backup, manifest.position).at_mark.hex() == manifest.chain:
        return None
    if found.position < manifest.position:
        return f"{MANIFEST} says {manifest.position}, and the backup ends at {found.position}"
    return f"{MANIFEST} says {manifest.position}, and the backup has another event there"


def _manifest_of(backup: Path) -> Manifest | None:
    """What a backup must hold. None: it is a copied directory, or was opened as one, so its lock says."""
    return None if (backup / LOCK).exists() else _read_manifest(backup)


def _read_manifest(backup: Path) -> Manifest | None:
    try:
        if (backup / MANIFEST).exists() and not (backup / MANIFEST).is_file():
            raise Corrupt(MANIFEST, "it is no file")
        return msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, *MISREAD):
        raise Corrupt(MANIFEST, "it is not readable") from None


def _must_be(manifest: Manifest, found: Verified, path: Path) -> None:
    """Raises Damaged: the database at `path` is not the one that `manifest` was written for."""
    if (manifest.log, manifest.position) != (found.log_id, found.position):
        raise Damaged(
            min(manifest.position, found.position) + 1,
            f"{MANIFEST} says that log {manifest.log} ends at {manifest.position}, and it is log"
            f" {found.log_id}, which ends at {found.position}",
        )
    if manifest.chain != found.chain.hex():
        raise Damaged(found.position, "it is not the event at which the backup was made")
    rows = _row_sums(path)
    for table, sums in manifest.rows.items():
        if (has := rows.get(table, (0, 0))) != sums:
            raise Corrupt(f"table {table}", f"its {has[0]} rows are not the {sums[0]} that were backed up")


def _make(directory: Path, *, fresh: bool) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=not fresh)
    except FileExistsError:
        raise EventStoreError(f"{directory} is there already: name a directory that is not") from None
    except OSError as error:
        raise EventStoreError(f"cannot make {directory}: {error.strerror}") from None


def _copy_file(source: Path, target: Path) -> None:
    """Copy `source`, if there is one, durably and with mode 0600."""
    if not source.exists():
        return
    if not source.is_file():  # a pipe would be waited for
        raise EventStoreError(f"{source} is no file: name a directory that `huahuo backup` made")
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with source.open("rb") as read, os.fdopen(descriptor, "wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


_STAGED: Final = "restoring"
_BESIDE: Final = (f"{DATABASE}-wal", f"{DATABASE}-journal")
"""What SQLite reads into a database that it finds beside it, whichever one they were written for."""


@contextlib.contextmanager
def placing(directory: Path, source: Path) -> Iterator[Path]:
    """A folder to make a log in. At the end of the block, when it is closed, it is put into `directory`.

    `source`: what it is made of. If the block raises, nothing is put there.
    Nobody else can open a log in `directory` meanwhile.

    Raises:
        InUse: somebody has a log in `directory` open.
        EventStoreError: there is a log already, or what one left; the source lies in the folder where it is
            made; or the directory cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(directory)
    except OSError as error:
        raise EventStoreError(f"cannot write into {directory}: {error.strerror}") from None
    staged, left = directory / _STAGED, None
    try:
        _must_be_free(directory, staged, source)
        shutil.rmtree(staged, ignore_errors=True)
        try:
            yield staged
            if unfolded := _beside(staged):
                raise EventStoreError(f"cannot restore into {directory}: {unfolded} is not empty at its end")
            left = left_of(staged)
            move_log(staged, directory)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    finally:
        lock.leave(left)


def _must_be_free(directory: Path, staged: Path, source: Path) -> None:
    if (directory / DATABASE).exists():
        raise EventStoreError(f"there is a log in {directory} already: restore into another directory")
    if left_over := _beside(directory):
        raise EventStoreError(
            f"{left_over} in {directory} is of a log that is not there any more, and would be read into"
            " this one: move it away, or restore into another directory"
        )
    if staged.is_symlink() or (staged.exists() and not staged.is_dir()):
        raise EventStoreError(f"{staged} is in the way: a restore makes a folder of that name. Move it away")
    if (directory / MARK).is_dir():
        raise EventStoreError(f"{directory / MARK} is a directory, and a file belongs there: move it away")
    if source.resolve().is_relative_to(staged.resolve()):
        raise EventStoreError(f"{source} is where a restore works, which empties it: move it away first")


def _beside(directory: Path) -> str:
    """The name of such a file that holds something, "" if there is none."""
    return next((name for name in _BESIDE if _size(directory / name)), "")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def move_log(staged: Path, directory: Path) -> None:
    """Put a closed log into a directory. It goes first: the mark of an earlier one is passed over."""
    try:
        for name in (DATABASE, MARK):
            (staged / name).rename(directory / name)
        folder = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise EventStoreError(f"cannot restore into {directory}: {error.strerror}") from None
