"""Writing a SQLite log: one connection, one transaction for each group, and maintenance of the files.

This connection is the only one that checkpoints: SQLite before 3.51.3 can corrupt a write-ahead log when
one connection checkpoints while another commits. What the log already has is asked on it, too, while a
group is decided. Old command records, and acks of unused clients, are forgotten with the groups that
follow (`Kept`).
"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import batched
from pathlib import Path
from typing import Any

import structlog

from huahuo.eventstore.core.command_records import AckClients, CommandCounts, KeptLimits
from huahuo.eventstore.core.draft import COMMANDS_KEPT_MS
from huahuo.eventstore.core.storage_port import (
    DropSealed,
    EndStream,
    ForgetUser,
    Group,
    IndexMore,
    Loaded,
    Prune,
    PutAcks,
    PutCommand,
    PutCounter,
    Shred,
)
from huahuo.eventstore.errors import Detached, InUse, Unavailable
from huahuo.eventstore.limits import INT64_MAX
from huahuo.eventstore.model import CommandKey, CommandRecord, Head, StoredEvent
from huahuo.eventstore.sqlite import seq_index, wal
from huahuo.eventstore.sqlite.changes import insert_events, number_streams, statements_of, with_passed
from huahuo.eventstore.sqlite.connections import connect_writer, is_corrupt, of_commit, text_of, translated
from huahuo.eventstore.sqlite.damage import must_be_absent
from huahuo.eventstore.sqlite.directory_lock import LOCK, DirectoryLock, Files, Left
from huahuo.eventstore.sqlite.initial_state import load, note_of_end
from huahuo.eventstore.sqlite.mark import MarkFile
from huahuo.eventstore.sqlite.names import Names, read_naming
from huahuo.eventstore.sqlite.reads import SqliteReads, select_commands
from huahuo.eventstore.sqlite.schema import COMMAND_FITS, Values, must_fit
from huahuo.eventstore.sqlite.seq_index import StreamSums
from huahuo.eventstore.sqlite.unindexed import NOTHING, Row, Slice, Unindexed
from huahuo.eventstore.sqlite.wal import WalCare

_LOOKED_UP_AT_ONCE = 256
_PRUNE_PAUSE_MS = 1000
_PRUNE_ROWS_MIN = 64
_USERS_AT_ONCE = 4
_AHEAD = 256
"""To find a user's oldest record takes 9 ms where it has 100,000: one in this many more is forgotten then."""

_OLDEST = "(SELECT rowid, * FROM command ORDER BY rowid LIMIT :limit) WHERE ts < :before_ms"
_FORGET_OLDEST = (
    f"DELETE FROM command WHERE rowid IN (SELECT rowid FROM {_OLDEST}) AND rowid <="  # noqa: S608  constants
    f" (SELECT rowid FROM {_OLDEST} AND {COMMAND_FITS} ORDER BY rowid DESC LIMIT 1) RETURNING user"
)
"""Rows are ordered by age. A row with a damaged `ts` is deleted with a later row, so never too early."""


_FORGET_OF_USER = (
    "DELETE FROM command WHERE rowid IN (SELECT rowid FROM command WHERE user = ? ORDER BY rowid LIMIT ?)"
    " RETURNING user"
)
_ACK_CLIENTS = "SELECT user, client FROM ack GROUP BY user, client ORDER BY max(rowid)"
_OLDEST_TS = "SELECT ts FROM command ORDER BY rowid LIMIT 1"
_COMMAND_COUNTS = "SELECT user, count(*) FROM command GROUP BY user"


class Kept:
    """The counts of what is kept, and its bounds. `bound` belongs to the transaction of the group."""

    def __init__(self, connection: sqlite3.Connection, limits: KeptLimits) -> None:
        self.connection = connection
        self._limits = limits
        self._damaged = False
        self.count(connection)

    def count(self, connection: sqlite3.Connection) -> None:
        """Count again. Checksums are not verified, because the counts only decide how much is forgotten."""
        self.connection = connection
        self.due_ms = 0
        """When old records are forgotten next, on the clock of the command records."""
        self.ack_clients = AckClients(self._limits, self._readable(_ACK_CLIENTS))
        self.commands = CommandCounts(self._limits, self._readable(_COMMAND_COUNTS))
        self._readable(_OLDEST_TS)  # what the next group begins to forget

    def _readable(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of `sql`; none if a page is damaged, so that more is kept than was asked for."""
        before, self.connection.text_factory = self.connection.text_factory, text_of
        try:
            return self.connection.execute(sql).fetchall()
        except sqlite3.DatabaseError as error:
            if not is_corrupt(error):
                raise
            self._damaged = True
            return []
        finally:
            self.connection.text_factory = before

    def bound(self, group: Group, kinds: AbstractSet[type]) -> None:
        """Forget acks of unused clients and the oldest command records, always more than the group adds.

        Where a damaged page is met, the group fails, and nothing is forgotten from then on.
        """
        if self._damaged:
            return
        try:
            self._bound(group, kinds)
        except sqlite3.DatabaseError as error:
            self._damaged = is_corrupt(error)
            raise

    def _bound(self, group: Group, kinds: AbstractSet[type]) -> None:
        counts = self.commands
        new = 0
        if PutCommand in kinds:
            users = [change.record.key.user for change in group.changes if isinstance(change, PutCommand)]
            new = len(users)
            of_users: dict[str, int] = {}  # most groups are small: a `Counter` takes six calls more
            for user in users:
                of_users[user] = of_users.get(user, 0) + 1
            for user, count in of_users.items():
                counts.add(user, count)
        if PutAcks in kinds:
            for change in group.changes:
                if isinstance(change, PutAcks):
                    self._bound_acks(change)
        if group.age_ms >= self.due_ms:
            self._forget_old(group.age_ms, _PRUNE_ROWS_MIN + 2 * new)
        if counts.too_many:
            self._forget_oldest(min(_PRUNE_ROWS_MIN + 2 * new, counts.too_many), INT64_MAX)
        if counts.over:
            ahead = self._limits.command_records_per_user // _AHEAD
            for user in list(counts.over)[:_USERS_AT_ONCE]:
                self._forgotten(_FORGET_OF_USER, (user, counts.over[user] + ahead))

    def _bound_acks(self, put: PutAcks) -> None:
        gone = [one for ack in put.acks for one in self.ack_clients.use(ack.user, ack.client)]
        for one in gone:
            self.connection.execute("DELETE FROM ack WHERE user = ? AND client = ?", one)

    def _forget_old(self, age_ms: int, limit: int) -> None:
        """Forget command records that are old enough. Rows are in commit order, so no index is needed."""
        if self._forget_oldest(limit, age_ms - COMMANDS_KEPT_MS) < limit:
            oldest = self.connection.execute(_OLDEST_TS).fetchone()
            due_ms = (oldest[0] if oldest else age_ms) + COMMANDS_KEPT_MS
            self.due_ms = max(due_ms, age_ms + _PRUNE_PAUSE_MS)

    def _forget_oldest(self, limit: int, before_ms: int) -> int:
        """Forget those of the `limit` oldest records that are older than `before_ms`. Returns how many."""
        return self._forgotten(_FORGET_OLDEST, {"limit": limit, "before_ms": before_ms})

    def _forgotten(self, sql: str, values: Values) -> int:
        users = Counter(user for (user,) in self.connection.execute(sql, values).fetchall())
        for user, count in users.items():
            self.commands.add(user, -count)
        return users.total()


_ERASING: frozenset[type] = frozenset((Shred, DropSealed, ForgetUser))
_CARE_COMMITS = 8
_LITTLE_BYTES = 64 << 10
_LITTLE: frozenset[type] = frozenset((PutCommand, PutCounter))
"""The size of the write-ahead log, a system call, is looked at after each commit. But of commits of one event
below `_LITTLE_BYTES` only after two of `_CARE_COMMITS`: the first, of an empty file maybe, and the last.
"""
_NO_KINDS: frozenset[type] = frozenset()
_log = structlog.get_logger(__name__)


class SqliteStore:
    """Implements `storage_port.Store`."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, names: Names, unindexed: Unindexed,
        reads: SqliteReads, lock: DirectoryLock, epoch: int, loaded: Loaded, mark: MarkFile,
        limits: KeptLimits,
    ) -> None:  # fmt: skip
        self.connection = connection
        self._names = names
        self._reads = reads
        self._path = path
        self._wal = f"{path}-wal"
        self.unindexed = unindexed
        self._lock = lock
        self._epoch = str(epoch).encode()
        self._log_id = loaded.log_id
        self._mark = mark
        self._note(loaded)
        self._side_files = (self._wal, f"{path}-shm")
        self._files = Files(str(path), *self._side_files, str(path.with_name(LOCK)))
        self.kept = Kept(connection, limits)
        self._sums = StreamSums(connection, names, unindexed)
        self.wal = WalCare(self._wal, connection, self._fence, lambda: lock.note_wal(frames=False))
        self._fenced = False
        self._grew_little = False  # the write-ahead log, by the last commit
        self._unproven = False  # a new connection took over frames that may not be synced
        self.written_before = lock.written_before
        if self.written_before:
            _log.error("log_written_by_others", told=self.written_before)
        _keep_wal_at_close(connection, keep=True)

    def commit(self, group: Group) -> None:
        """See `Store`. Erased data is then in no file any more (a little later if a reader blocks that)."""
        if self._files.lost:
            raise Detached(self._files.lost)
        connection, names, changes = self.connection, self._names, group.changes
        known = names.named, len(names.ids)
        kinds: AbstractSet[type] = set(map(type, changes)) if changes else _NO_KINDS  # few, of many changes
        begins = True
        try:
            connection.execute("BEGIN IMMEDIATE")
            self._fence()
            rows = self._write_events(group.events) if group.events else []
            moving = self._moving(group, kinds)
            if moving is not NOTHING:
                seq_index.write(connection, moving)
            if changes:
                for sql, values in statements_of(changes):
                    connection.execute(sql, values)
            begins = False
            if changes or group.age_ms >= self.kept.due_ms:
                self.kept.bound(group, kinds)
            connection.execute("COMMIT")
            # Few calls from here on: a lone append waits for them, and the sync has emptied the caches.
            self.wal.commits += 1
            if not self._lock.wal_noted:
                self._lock.note_wal(frames=True)
            if moving is not NOTHING:
                self.unindexed.moved(moving)
            self.unindexed.add(rows)
            for change in changes if EndStream in kinds else ():
                if type(change) is EndStream:
                    self._sums.drop(names.end(change.stream) or 0)
        except BaseException as error:  # noqa: BLE001  it is raised again
            # Now, because an open transaction would block a writer that has taken over.
            self._sums.clear()
            with contextlib.suppress(sqlite3.Error):
                self._roll_back()
            raise of_commit(error, begins and known == (names.named, len(names.ids))) from None
        self._files.must_be_ours()
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
        if ForgetUser in kinds:
            self.kept.count(connection)
        if not _ERASING.isdisjoint(kinds):
            self.wal.erase()

    def recover(self) -> Loaded:
        """See `Store`. Rolling back on the same connection hides unsynced frames for good.

        A new connection could find such frames in the page cache and take them for durable. So it is opened
        only if this one is unusable, and then it empties the write-ahead log before it reads.
        """
        self._lock.distrust()
        self._sums.clear()
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
        return position <= self.unindexed.complete_to

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
        loaded = load(self.connection, self._names, self.unindexed, naming, summed=True)
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
        seq_index.write(self.connection, self.unindexed.all())
        self.connection.execute("COMMIT")

    # -- what the log already has

    def find_commands(self, keys: Sequence[CommandKey], since_ms: int) -> dict[CommandKey, CommandRecord]:
        """See `Lookup`."""
        try:
            found = select_commands(self.connection, keys, since_ms)
        except sqlite3.Error as error:
            raise translated(error) from None
        if len(found) < len(keys):
            self._reads.corruption.must_not_hide("command")
        return found

    def wrapped_keys(self, owners: Sequence[str]) -> dict[str, bytes]:
        """See `Lookup`."""
        found: dict[str, bytes] = {}
        try:
            for some in batched(owners, _LOOKED_UP_AT_ONCE):
                asked = ", ".join("?" * len(some))
                sql = f"SELECT owner, wrapped, crc FROM data_key WHERE owner IN ({asked})"  # noqa: S608
                for owner, wrapped, crc in self.connection.execute(sql, some):
                    must_fit(crc, "data_key", owner, wrapped)
                    found[owner] = wrapped
            absent = [(owner,) for owner in owners if owner not in found]
            must_be_absent(self.connection, "data_key", absent)
        except sqlite3.Error as error:
            raise translated(error) from None
        if len(found) < len(set(owners)):  # a new key in a hidden one's place would lose what that one sealed
            self._reads.corruption.must_not_hide("data_key")
        return found

    def has_row(self, table: str, part: str, key: bytes) -> bool:
        """See `Lookup`."""
        sql = "SELECT 1 FROM projection WHERE tbl = ? AND part = ? AND key = ?"
        try:
            return self.connection.execute(sql, (table, part, key)).fetchone() is not None
        except sqlite3.Error as error:
            raise translated(error) from None

    def ended_head(self, stream: str, upto: int) -> Head | None:
        """See `Lookup`."""
        return self._reads.ended_head(stream, upto)

    # -- inside a transaction

    def _write_events(self, events: list[StoredEvent]) -> list[Row]:
        """Returns their places in the index."""
        streams = number_streams(self.connection, self._names, events)
        rows = self._sums.rows(events, streams)
        insert_events(self.connection, self._names, events, rows)
        return rows

    def _moving(self, group: Group, kinds: AbstractSet[type]) -> Slice:
        """The places to write to the index with `group`. Rows that it prunes must be in the table."""
        wanted = 0
        for change in group.changes if Prune in kinds or IndexMore in kinds else ():
            if isinstance(change, Prune) and not self.is_indexed(max(change.positions, default=0)):
                return self.unindexed.all()
            if isinstance(change, IndexMore):
                wanted += change.events
        return self.unindexed.due(len(group.events), wanted)

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
