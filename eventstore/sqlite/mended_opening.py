"""What keeps a log from being opened and can be mended is mended, and the opening is tried again."""

import contextlib
import sqlite3
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.errors import MISREAD, Corrupt, Damaged
from huahuo.eventstore.sqlite.connecting import connect_reader, connect_writer
from huahuo.eventstore.sqlite.damage import broken_tables
from huahuo.eventstore.sqlite.directory_lock import DirectoryLock
from huahuo.eventstore.sqlite.faults import no_room
from huahuo.eventstore.sqlite.index_proof import FALSE_INDEX
from huahuo.eventstore.sqlite.loss import check_loss
from huahuo.eventstore.sqlite.mark import Mark
from huahuo.eventstore.sqlite.page_faults import give_old_pages_back
from huahuo.eventstore.sqlite.put_right import put_right
from huahuo.eventstore.sqlite.reads import SqliteReads
from huahuo.eventstore.sqlite.rebuild import copy_table, make_seq_index_again
from huahuo.eventstore.sqlite.remaking import remake_ended, remake_pruned
from huahuo.eventstore.sqlite.remaking_events import remake_events
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.store import SqliteStore
from huahuo.eventstore.sqlite.table_faults import faults_said, index_of
from huahuo.eventstore.sqlite.tail_check import NOT_INDEXED, Misfit

OLD_PAGES: Final = "the old pages of tables that were made again"
_OLD_PAGES_STAY: Final = (
    "so they stay in the file, and with them what is erased from now on. `huahuo compact` removes them"
)


def nothing_lost(directory: Path, lock: DirectoryLock, marks: list[Mark]) -> list[Corrupt]:
    """As `check_loss`, but first what can be proven is put right, and what SQLite cannot read is looked for.

    Returns what was mended.
    """
    path = directory / DATABASE

    def check() -> None:
        check_loss(directory, lock.left, whole=not lock.lost_power)

    try:
        check()
    except Damaged as error:
        damage = put_right(path, marks) or mend_events(path, error, marks=marks, accept=False)
        if damage is None:
            raise
        check()
        return [damage]
    return []


def checked_or_mended(
    path: Path, check: Callable[[bool], tuple[SqliteStore, SqliteReads, Loaded]], mended: list[Corrupt],
    marks: list[Mark], *, accept: bool,
) -> tuple[SqliteStore, SqliteReads, Loaded]:  # fmt: skip
    """What keeps an opening from its end, and can be made again, is made again: each at most once.

    `check` opens the log, and is told whether what does not fit the chain has been put right if it can be.
    """
    mends: list[Callable[[Path, Exception], Corrupt | None]] = [
        _mend_index_of_pruned, lambda path, error: mend_events(path, error, marks=marks, accept=accept),
        _mend_index, remake_ended, remake_pruned,
    ]  # fmt: skip
    old_pages, given_back, proven = "", 0, False
    while True:
        if len(mended) > given_back:  # at once: what is loaded is of the file that stays
            old_pages, given_back = give_old_pages_back(path), len(mended)
        try:
            store, reads, loaded = check(proven)
        except (Damaged, sqlite3.DatabaseError, *MISREAD) as error:
            traceback.clear_frames(error.__traceback__)  # a cursor in one of them would hold up checkpoints
            if no_room(error, path.parent) is not None:
                raise  # nothing is damaged
            damage = None
            if not proven:
                proven, damage = True, put_right(path, marks)
                if damage is None and isinstance(error, Misfit):
                    continue
            while mends and damage is None:
                damage = mends.pop(0)(path, error)
            if damage is None:
                raise
            mended.append(damage)
        else:
            if old_pages:
                mended.append(Corrupt(OLD_PAGES, f"{old_pages}; {_OLD_PAGES_STAY}"))
            for damage in mended:
                reads.corruption.note(damage)
            return store, reads, loaded


def mend_events(path: Path, error: Exception | None, *, marks: list[Mark], accept: bool) -> Corrupt | None:
    """If SQLite cannot read all events, they are searched for in the pages of the file."""
    damage = remake_events(path, error, marks=marks, accept=accept)
    if damage is not None:
        make_seq_index_again(path, accept=accept)
    return damage


def _mend_index_of_pruned(path: Path, _error: Exception) -> Corrupt | None:
    """If only the index of the tombstones is damaged, it is made again: first, since others need it."""
    with contextlib.closing(connect_reader(path)) as connection:
        said = faults_said(connection, "PRAGMA quick_check('pruned')")
    if not said or not broken_tables(path).get("pruned"):
        return None
    with contextlib.closing(connect_writer(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        copy_table(connection, "pruned")
        connection.execute("COMMIT")
    return Corrupt(index_of("pruned"), f"{said[0]}; it was made again")


def _mend_index(path: Path, error: Exception) -> Corrupt | None:
    """If the index by stream and seq is what is damaged, it is made again from the events."""
    damage = _index_damage(path, error)
    if damage is not None:
        make_seq_index_again(path)
    return damage


def _index_damage(path: Path, error: Exception) -> Corrupt | None:
    """What is wrong with the index by stream and seq, if an opening failed for that."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connect_reader(path)) as connection:
        said = faults_said(connection, "PRAGMA quick_check('seq_index')")
        if said or (isinstance(error, Damaged) and error.reason in (NOT_INDEXED, FALSE_INDEX)):
            reason = said[0] if said else str(error)
            return Corrupt("the index by stream and seq", f"{reason}; it was made again from the events")
    return None
