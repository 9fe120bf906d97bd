"""Writing a SQLite log: one connection, one transaction for each group, and maintenance of the files.

This connection is the only one that checkpoints: SQLite before 3.51.3 can corrupt a write-ahead log
when one connection checkpoints while another commits.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

import structlog

from huahuo.eventstore.core.changes import (
    Change,
    DropSealed,
    EndStream,
    ForgetUser,
    Group,
    IndexMore,
    Prune,
    PutCommand,
    PutCounter,
    Shred,
)
from huahuo.eventstore.core.kept import KeptLimits
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.errors import Detached, InUse, Unavailable
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.sqlite import seq_index, wal
from huahuo.eventstore.sqlite.changes import statements_of
from huahuo.eventstore.sqlite.connecting import connect_writer
from huahuo.eventstore.sqlite.directory_lock import LOCK, DirectoryLock, Left
from huahuo.eventstore.sqlite.faults import of_commit, translated
from huahuo.eventstore.sqlite.files import Files
from huahuo.eventstore.sqlite.inserts import insert_events, number_streams
from huahuo.eventstore.sqlite.kept_rows import Kept
from huahuo.eventstore.sqlite.loading import load, note_of_end
from huahuo.eventstore.sqlite.lookup import SqliteLookup
from huahuo.eventstore.sqlite.mark import MarkFile
from huahuo.eventstore.sqlite.names import Names
from huahuo.eventstore.sqlite.naming import read_naming
from huahuo.eventstore.sqlite.passed import with_passed
from huahuo.eventstore.sqlite.reads import SqliteReads
from huahuo.eventstore.sqlite.stream_sums import StreamSums
from huahuo.eventstore.sqlite.unindexed import NOTHING, Row, Slice, Unindexed
from huahuo.eventstore.sqlite.usage import Tally
from huahuo.eventstore.sqlite.wal_care import WalCare

_MOVING: frozenset[type] = frozenset((Prune, IndexMore))
_ERASING: frozenset[type] = frozenset((Shred, DropSealed, ForgetUser))
_CARE_COMMITS = 8
_LITTLE_BYTES = 64 << 10
_LITTLE: frozenset[type] = frozenset((PutCommand, PutCounter))
"""The size of the write-ahead log, a system call, is looked at after each commit. But of commits of one event
below `_LITTLE_BYTES` only after two of `_CARE_COMMITS`: the first, of an empty file maybe, and the last.
"""
_NO_KINDS: frozenset[type] = frozenset()
_log = structlog.get_logger(__name__)


class SqliteStore(SqliteLookup):
    """Implements `storage_port.Store`."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, names: Names, unindexed: Unindexed,
        reads: SqliteReads, lock: DirectoryLock, epoch: int, loaded: Loaded, mark: MarkFile,
        limits: KeptLimits,
    ) -> None:  # fmt: skip
        super().__init__(connection, names, reads)
        self._path = path
        self._wal = f"{path}-wal"
        self._unindexed = unindexed
        self._lock = lock
        self._epoch = str(epoch).encode()
        self._log_id = loaded.log_id
        self._mark = mark
        self._note(loaded)
        self._side_files = (self._wal, f"{path}-shm")
        self._files = Files(str(path), *self._side_files, str(path.with_name(LOCK)))
        self.kept = Kept(connection, limits)
        self._sums = StreamSums(connection, names, unindexed)
        self._tally = Tally()
        self.wal = WalCare(self._wal, connection, self._fence, lambda: lock.note_wal(frames=False))
        self._fenced = False
        self._grew_little = False  # the write-ahead log, by the last commit
        self._unproven = False  # a new connection took over frames that may not be synced
        self.written_before = lock.written_before
        if self.written_before:
            _log.error("log_written_by_others", told=self.written_before)
        _keep_wal_at_close(connection, keep=True)

    @property
    def unindexed_count(self) -> int:
        """Events that are not in the index by stream and seq yet."""
        return self._unindexed.count

    def commit(self, group: Group) -> None:
        """See `Store`. Erased data is then in no file any more (a little later if a reader blocks that)."""
        if self._files.lost:
            raise Detached(self._files.lost)
        connection, names, changes = self.connection, self._names, group.changes
        known = names.named, len(names.ids)
        begins = True
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._fence()
            rows = self._write_events(group.events) if group.events else []
            moving = self._moving(group)
            if moving is not NOTHING:
                seq_index.write(connection, moving)
            if changes:
                for sql, values in statements_of(changes, self._tally):
                    connection.execute(sql, values)
            begins = False
            if changes or group.age_ms >= self.kept.due_ms:
                self.kept.bound(group)
            connection.execute("COMMIT")
            # Few calls from here on: a lone append waits for them, and the sync has emptied the caches.
            self.wal.commits += 1
            if not self._lock.wal_noted:
                self._lock.note_wal(frames=True)
            if moving is not NOTHING:
                self._unindexed.moved(moving)
            self._unindexed.add(rows)
            if changes:
                self._tally.committed(connection)
                self._end_streams(changes)
        except BaseException as error:  # noqa: BLE001  it is raised again
            # Now, because an open transaction would block a writer that has taken over.
            self._sums.clear()
            self._tally.forget()
            with contextlib.suppress(sqlite3.Error):
                self._roll_back()
            raise of_commit(error, begins and known == (names.named, len(names.ids))) from None
        self._files.must_be_ours()
        kinds: AbstractSet[type] = set(map(type, changes)) if changes else _NO_KINDS  # few, of many changes
        if PutCounter in kinds:
            self._count(change for change in changes if isinstance(change, PutCounter))
        events = group.events
        if events:
            self._end = events[-1].position, events[-1].chain
        is_lone = len(events) == 1 and len(events[0].body) < _LITTLE_BYTES
        self._grew_little = (is_lone or not events) and kinds <= _LITTLE
        if events or PutCounter in kinds:
            self._mark.write(*self._end, self._counted)
            if self._files.may_have_changed:
                self._mark.make_again_if_gone(*self._end, self._counted)
        if kinds:
            self._follow(kinds)

    def _end_streams(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if type(change) is EndStream:
                self._sums.drop(self._names.end(change.stream) or 0)

    def _follow(self, kinds: AbstractSet[type]) -> None:
        """What a commit with changes of these kinds asks for."""
        if ForgetUser in kinds:
            self.kept.count(self.connection)
        if not kinds.isdisjoint(_ERASING):
            self.wal.erase()

    def between_commits(self, change: Callable[[sqlite3.Connection], None]) -> None:
        """Make `change` in a transaction of its own.

        Raises:
            EventStoreError: it was not made.
        """
        if self._files.lost:
            raise Detached(self._files.lost)
        if self.connection.in_transaction:
            raise Unavailable("a commit failed, and it is not known yet what it wrote")
        self._tally.forget()
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self._fence()
            change(self.connection)
            self.connection.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self._roll_back()
            if isinstance(error, sqlite3.Error):
                raise translated(error) from None
            raise

    def recover(self) -> Loaded:
        """See `Store`. Rolling back on the same connection hides unsynced frames for good.

        A new connection could find such frames in the page cache and take them for durable. So it is opened
        only if this one is unusable, and then it empties the write-ahead log before it reads.
        """
        self._lock.distrust()
        self._sums.clear()
        self._tally.forget()
        self._files.must_be_ours(*self._side_files)
        loaded = self._recover()
        self._note(loaded)
        self._mark.write(*self._end, self._counted)  # listeners will be told what is durable
        try:
            self.kept.count(self.connection)
        except sqlite3.Error as error:
            raise translated(error) from None
        return loaded

    def _recover(self) -> Loaded:
        try:
            self._roll_back()
            return self._load_durable()
        except sqlite3.Error:
            try:
                self.connection.close()
                self.connection = self._sums.connection = self.wal.connection = connect_writer(self._path)
                _keep_wal_at_close(self.connection, keep=True)
                self._unproven = True
                loaded = self._load_durable()
                self._files.note(*self._side_files)  # SQLite may have made them again
            except sqlite3.Error as error:
                raise translated(error) from None
            return loaded

    def is_indexed(self, position: int) -> bool:
        """See `Store`."""
        return position <= self._unindexed.complete_to

    def care_due(self) -> bool:
        """See `Store`."""
        if self._fenced or self._files.lost:
            return False
        care = self.wal
        if care.erasing:
            return True
        if self._grew_little and care.commits % _CARE_COMMITS > 1:
            return False
        return wal.size_bytes(self._wal) > care.care_above

    def care(self) -> None:
        """See `Store`."""
        self.wal.care()

    def close(self) -> None:
        """See `Store`. Notes where the log ends if that is certain.

        Raises:
            Detached: a file of the log was deleted, moved or replaced. Everything is released first.
        """
        self._reads.close()
        left: Left | None = None
        try:
            if not (self._fenced or self._files.lost):
                self._files.must_be_ours()
                left = self._settle()
        except (sqlite3.Error, InUse) as error:
            _log.warning("unclean_close", reason=str(error))
        except Detached:
            pass  # raised at the end
        finally:
            # SQLite would delete the write-ahead log by its name, which may now be that of another log.
            _keep_wal_at_close(self.connection, keep=self._fenced or bool(self._files.lost))
            self.connection.close()
            self._mark.close()
            self._lock.leave(left)
        if self._files.lost:
            raise Detached(self._files.lost)

    def _note(self, loaded: Loaded) -> None:
        """Keep what `log.mark` says with each commit."""
        self._end = loaded.position, loaded.chain
        self._counters = dict(loaded.counters)
        self._counted = sum(self._counters.values())

    def _count(self, puts: Iterable[PutCounter]) -> None:
        for put in puts:
            self._counters[put.counter] = max(put.next, self._counters.get(put.counter, 0))
        self._counted = sum(self._counters.values())

    def load(self) -> Loaded:
        """Read the durable state of the log."""
        naming = read_naming(self.connection)
        loaded = load(self.connection, self._names, self._unindexed, naming, summed=True)
        return with_passed(self.connection, loaded)

    def _load_durable(self) -> Loaded:
        if self._unproven and not self.wal.checkpoint("TRUNCATE"):
            raise Unavailable("the write-ahead log could not be emptied after a failed write")
        self._unproven = False
        return self.load()

    def _settle(self) -> Left:
        """Empty the write-ahead log and say where the log ends."""
        self._roll_back()
        self._index_all()
        self.wal.checkpoint("TRUNCATE")
        return note_of_end(self.connection, self._log_id)

    def _index_all(self) -> None:
        """Complete the index, so that the next opening need not search."""
        self.connection.execute("BEGIN IMMEDIATE")
        self._fence()
        seq_index.write(self.connection, self._unindexed.all())
        self.connection.execute("COMMIT")

    # -- inside a transaction

    def _write_events(self, events: list[StoredEvent]) -> list[Row]:
        """Returns their places in the index."""
        streams = number_streams(self.connection, self._names, events)
        rows = self._sums.rows(events, streams)
        insert_events(self.connection, self._names, events, rows)
        self._tally.add(events)
        return rows

    def _moving(self, group: Group) -> Slice:
        """The places to write to the index with `group`. Rows that it prunes must be in the table."""
        if not group.changes:
            return self._unindexed.due(len(group.events))
        wanted = 0
        for change in group.changes if not _MOVING.isdisjoint(map(type, group.changes)) else ():
            if isinstance(change, Prune) and not self.is_indexed(max(change.positions, default=0)):
                return self._unindexed.all()
            if isinstance(change, IndexMore):
                wanted += change.events
        return self._unindexed.due(len(group.events), wanted)

    def _fence(self) -> None:
        """Raise InUse if the epoch changed: another writer took the directory over in spite of the lock."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = 'writer_epoch'").fetchone()
        if row is None or row[0] != self._epoch:
            self._fenced = True
            raise InUse(f"{self._path.parent} was taken over by another writer")

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


def _keep_wal_at_close(connection: sqlite3.Connection, *, keep: bool) -> None:
    """Whether the file outlives the last connection. Of a program that ends without `close` it must.

    Else an interpreter that drops the connection at its exit would seem to be another program.
    """
    connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
