"""The SQLite engine: opening a directory.

DIR/log.db        the log and what commits with it (mode 0600; -wal and -shm next to it)
DIR/log.mark      a position that the log must reach (`huahuo.eventstore.sqlite.mark`)
DIR/writer.lock   which process writes, or how the log was left
"""

import contextlib
import functools
import os
import sqlite3
from pathlib import Path
from typing import Any, Self

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.ages import AgeNote
from huahuo.eventstore.core.fair_executor import FairExecutor
from huahuo.eventstore.core.kept import DEFAULT_LIMITS, KeptLimits
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.sums import must_fit
from huahuo.eventstore.core.writer import Writer, WriterOf
from huahuo.eventstore.errors import MISREAD, Corrupt, Damaged, EventStoreError, WrongKey
from huahuo.eventstore.executor import Executor, ThreadExecutor
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.changes import AGE_KEY
from huahuo.eventstore.sqlite.directory_lock import DirectoryLock
from huahuo.eventstore.sqlite.events import Names
from huahuo.eventstore.sqlite.faults import is_corrupt, translated
from huahuo.eventstore.sqlite.index_proof import prove_index
from huahuo.eventstore.sqlite.loading import load, select_end
from huahuo.eventstore.sqlite.looking_over import LookingOver, check_first
from huahuo.eventstore.sqlite.loss import settle_loss
from huahuo.eventstore.sqlite.mark import MARK, Mark, MarkFile, read_marks
from huahuo.eventstore.sqlite.mended_opening import checked_or_mended, mend_events, nothing_lost
from huahuo.eventstore.sqlite.mending import mend, salvage
from huahuo.eventstore.sqlite.meta import get_meta, put_meta
from huahuo.eventstore.sqlite.naming import read_naming
from huahuo.eventstore.sqlite.page_faults import COPY, check_pages
from huahuo.eventstore.sqlite.passed import SHARED_KEY, leave_order, with_passed
from huahuo.eventstore.sqlite.reads import SqliteReads
from huahuo.eventstore.sqlite.remaking import (
    FIRST_NUMBER,
    LOSS_STRIDE,
    remake_small,
)
from huahuo.eventstore.sqlite.remaking_events import complete_file, cut_back
from huahuo.eventstore.sqlite.schema import COMMAND_FITS, DATABASE, connect_reader, connect_writer, prepare
from huahuo.eventstore.sqlite.search_scratch import SCRATCH
from huahuo.eventstore.sqlite.seq_index import Unindexed
from huahuo.eventstore.sqlite.store import SqliteStore
from huahuo.eventstore.sqlite.tail_check import UNPLACED, Misfit, tail_damage

_READERS = 2


class SqliteLog(StoreLog):
    """A `Log` in one directory of the local file system, written by one process."""

    _store: SqliteStore
    _own_reads: SqliteReads
    _database: Path

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        ambient: Ambient,
        master_key: bytes,
        build: str,
        writer: Executor | None = None,
        readers: Executor | None = None,
        restored: bool = False,
        accept_loss: bool = False,
        limits: KeptLimits = DEFAULT_LIMITS,
        writer_of: WriterOf = Writer,
        log_id: str = "",
    ) -> Self:
        """Open the log in `directory`, created if necessary. The caller closes the executors that it passes.

        `restored` says that the files come from a backup. Numbers may have gone back, so the log gets a
        new id; and it may end at another position than that at which the directory was left. `accept_loss`
        opens a log that lost its end (`Lost`) all the same: under a new id, with its counters moved on.
        `log_id`: of a log that is created ("": one by chance).

        Raises:
            InUse: another process has it open. WrongKey: it was made with another master key.
            Damaged: its files are not what was written, or events are missing. If only an event near the
            end does not fit the chain, it is noted in `corruption`, and the undamaged streams go on.
            Lost: acknowledged events are gone; no file was changed.
            EventStoreError: it cannot be opened.
        """
        owned: list[Executor] = []
        if writer is None:
            owned.append(writer := ThreadExecutor(1, "log-writer"))
        if readers is None:
            readers = FairExecutor(ThreadExecutor(_READERS, "log-reader"), at_once=2 * _READERS)
            owned.append(readers)
        vault = Vault(master_key, ambient)
        try:
            opening = functools.partial(
                _open, directory, ambient, vault,
                restored=restored, accept_loss=accept_loss, limits=limits, log_id=log_id,
                alone=writer_of is Writer,
            )  # fmt: skip
            store, reads, loaded = await writer.run(opening)
        except BaseException:
            for executor in owned:
                executor.close()
            raise
        log = cls(
            store, reads, loaded, vault=vault, ambient=ambient, build=build,
            writer=writer, readers=readers, owned=tuple(owned), writer_of=writer_of,
        )  # fmt: skip
        log._store, log._own_reads = store, reads
        log._database = directory / DATABASE
        return log

    def look_over(self, executor: Executor) -> LookingOver:
        """Begin to look for rows that a damaged page hides, by an executor that has nothing else to do.

        The caller stops it before it closes the log; that closes the executor.
        """
        store = self._store

        async def mend_table(table: str, pages_whole: bool) -> None:
            await self.writer.between_commits(lambda: mend(store, table, pages_whole=pages_whole))

        async def salvage_table(table: str) -> int:
            lost = 0

            def job() -> None:
                nonlocal lost
                lost = salvage(self._database, store, table)

            await self.writer.between_commits(job)
            return lost

        looking = LookingOver(self._database, self.corruption, executor, mend_table, salvage_table)
        self.before_commands = functools.partial(looking.passed, "command")
        self.writer.before_commands = self.before_commands
        self.before_lists = functools.partial(looking.passed, "projection")

        def over() -> None:
            self.before_commands = self.writer.before_commands = self.before_lists = None

        looking.then(over)
        return looking

    async def forget_pages(self) -> None:
        """Free the pages of the database that the writer keeps for speed; commits read what they need."""
        with contextlib.suppress(sqlite3.Error):  # a commit will meet it, too
            await self.writer.between_commits(
                lambda: self._store.connection.execute("PRAGMA shrink_memory").close()
            )

    async def single(self, key: str) -> bytes | None:
        """A single value that `put_single` wrote. Raises Corrupt: it is not what was written."""
        return await self._read(lambda: self._own_reads.single(key))

    async def put_single(self, key: str, value: bytes) -> None:
        """Keep a single value under a key of the caller's. Raises EventStoreError: it was not written."""
        store = self._store
        await self.writer.between_commits(
            lambda: store.between_commits(lambda connection: put_meta(connection, key, value))
        )

    @property
    def command_records(self) -> int:
        """How many command records are kept."""
        return self._store.kept.commands.total

    @property
    def ack_clients(self) -> int:
        """How many clients have acks on disk."""
        return len(self._store.kept.ack_clients)


def _open(
    directory: Path,
    ambient: Ambient,
    vault: Vault,
    *,
    restored: bool,
    accept_loss: bool,
    limits: KeptLimits,
    log_id: str,
    alone: bool,
) -> tuple[SqliteStore, SqliteReads, Loaded]:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(directory)
    except OSError as error:
        raise EventStoreError(f"{directory} cannot be used: {error.strerror}") from None
    cut_off_at = 0
    try:
        path = directory / DATABASE
        marks = read_marks(directory) or []
        for unfinished in (path.with_name(COPY), *directory.glob(f"{SCRATCH}*")):
            unfinished.unlink(missing_ok=True)
        cut_off_at = complete_file(path)
        remade = _settled(directory, lock, marks) if accept_loss else []
        if not (accept_loss or restored):
            remade = nothing_lost(directory, lock, marks)
        _make(path)
        remade += remake_small(
            path, marks=marks, lock=lock, vault=vault, ambient=ambient,
            compared=not (restored or accept_loss),
        )  # fmt: skip
        check = functools.partial(
            _check, path, lock=lock, ambient=ambient, vault=vault,
            restored=restored, lost=accept_loss, limits=limits, log_id=log_id, alone=alone,
        )  # fmt: skip
        return checked_or_mended(path, check, remade, [] if restored else marks, accept=accept_loss)
    except BaseException as error:
        lock.leave(None)
        cut_back(directory / DATABASE, cut_off_at)
        if isinstance(error, sqlite3.Error):
            raise translated(error) from None
        if isinstance(error, OSError):
            raise EventStoreError(f"{directory} cannot be used: {error.strerror}") from None
        if isinstance(error, MISREAD):
            raise Corrupt("the log's file", f"a value is none that was written ({error})") from error
        raise


def _settled(directory: Path, lock: DirectoryLock, marks: list[Mark]) -> list[Corrupt]:
    """Decide what is kept of a log with a loss. Raises as `settle_loss`."""
    try:
        settle_loss(directory, lock)
    except EventStoreError:  # its end is there, or no file of it can be read as a whole
        damage = mend_events(directory / DATABASE, None, marks=marks, accept=True)
        if damage is None:
            raise
        return [damage]
    return []


def _make(path: Path) -> None:
    """Create the database file with its mode, before SQLite would with a wider one."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        # Do not open it here: closing any descriptor of it would drop SQLite's locks in this process.
        path.chmod(0o600)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check(path: Path, proven: bool, **how: Any) -> tuple[SqliteStore, SqliteReads, Loaded]:
    connection = connect_writer(path)
    try:
        return _checked(path, connection, proven, **how)
    except BaseException:
        connection.close()
        raise


def _checked(
    path: Path,
    connection: sqlite3.Connection,
    proven: bool,
    *,
    lock: DirectoryLock,
    ambient: Ambient,
    vault: Vault,
    restored: bool,
    lost: bool,
    limits: KeptLimits,
    log_id: str,
    alone: bool,
) -> tuple[SqliteStore, SqliteReads, Loaded]:
    """Everything that must hold before the log may be written again.

    `proven`: a new event that does not fit the chain cannot be put right. Otherwise it raises `Misfit`.
    """
    # The commits of a killed process may be in the page cache only: make them durable before they are read.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if lock.lost_power:  # reads every page: seconds if the log is large
        with contextlib.closing(connect_reader(path)) as looking:
            check_pages(looking)
    connection.execute("BEGIN IMMEDIATE")
    # Before the first write, so that what is damaged stays as it was found; and by a connection of its own,
    # since SQLite writes no more in a transaction that met a damaged page.
    with contextlib.closing(connect_reader(path)) as looking:
        torn = check_first(looking)
        torn_naming = read_naming(looking, whole=False) if torn else None
    _identify(connection, path, ambient, vault, log_id=log_id, anew=restored or lost, alone=alone)
    if lost:
        _move_on(connection)
    naming = torn_naming or read_naming(connection)
    caught = seq_index.catch_up(connection, naming, whole=naming.is_whole and not (restored or lost))
    if caught.misfit and not proven:
        raise Misfit(caught.misfit, "the event does not fit the hash chain")
    if caught.misplaced:
        raise Damaged(caught.misplaced, UNPLACED)
    ends = prove_index(connection, naming, select_end(connection)[0], caught.unfit)
    master_key, old_epoch = (_must_have(connection, key) for key in ("master_key", "writer_epoch"))
    if not vault.knows(master_key):
        raise WrongKey(f"the log in {path.parent} was made with another master key")
    epoch = int(old_epoch) + 1
    put_meta(connection, "writer_epoch", str(epoch).encode())
    connection.execute("COMMIT")
    if restored or lost:
        # The new id must not be lost with the write-ahead log: the mark belongs to it.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    names, unindexed = Names(), Unindexed(seq_index.UNINDEXED_MAX)
    reads = SqliteReads(path, names, unindexed)
    reads.torn, reads.torn_naming = frozenset(torn), torn_naming
    for damage in torn.values():
        reads.corruption.note(damage)
    reads.note(naming)
    loaded = load(connection, names, unindexed, naming, summed=True, links=caught.links, ends=ends)
    noted = {"first_number": _first_number(connection), "age": _age(connection)}
    loaded = with_passed(connection, msgspec.structs.replace(loaded, **noted))
    damages = tail_damage(connection, names, unindexed, loaded, naming, lock.left)
    if damages and not proven:
        raise Misfit(damages[0].position, damages[0].reason)
    for damage in damages:
        reads.corruption.note(damage)
    counted = sum(loaded.counters.values())
    mark = MarkFile(path.with_name(MARK), Mark(loaded.log_id, loaded.position, loaded.chain, counted))
    try:
        store = SqliteStore(path, connection, names, unindexed, reads, lock, epoch, loaded, mark, limits)
        lock.hold()
    except BaseException:
        mark.close()
        raise
    return store, reads, loaded


def _identify(
    connection: sqlite3.Connection,
    path: Path,
    ambient: Ambient,
    vault: Vault,
    *,
    log_id: str,
    anew: bool,
    alone: bool,
) -> None:
    """Give a new log its id, and one that was restored or lost events another."""
    if prepare(connection):
        put_meta(connection, "log", (log_id or ambient.token()).encode())
        put_meta(connection, "writer_epoch", b"0")
        put_meta(connection, "master_key", vault.mark())
    elif anew:
        put_meta(connection, "log", ambient.token().encode())
        leave_order(connection)
    elif alone and get_meta(connection, SHARED_KEY) is not None:
        raise EventStoreError(
            f"{path.parent} is a replica of a log that several nodes share: only its node writes it, by"
            " `huahuo serve --log …`. Ask that node, or restore a backup of it as a single service"
        )


def _move_on(connection: sqlite3.Connection) -> None:
    """Move the counters on: a number that only the lost part holds must not be handed out again."""
    for name, following, crc in connection.execute("SELECT name, next, crc FROM counter").fetchall():
        must_fit(crc, "counter", name, following)
    first = _first_number(connection) + LOSS_STRIDE
    put_meta(connection, FIRST_NUMBER, str(first).encode())
    following = "max(next + :stride, :first)"
    connection.execute(
        f"UPDATE counter SET next = {following}, crc = row_crc('counter', name, {following})",  # noqa: S608
        {"stride": LOSS_STRIDE, "first": first},
    )


def _first_number(connection: sqlite3.Connection) -> int:
    return int(get_meta(connection, FIRST_NUMBER) or b"1")


def _age(connection: sqlite3.Connection) -> AgeNote | None:
    """The last note of the command records' clock; an older version aged the records by the wall clock."""
    noted = get_meta(connection, AGE_KEY)
    if noted is not None:
        return msgspec.json.decode(noted, type=AgeNote)
    sql = f"SELECT ts FROM command WHERE {COMMAND_FITS} ORDER BY rowid DESC LIMIT 1"  # noqa: S608  constant
    try:
        row = connection.execute(sql).fetchone()
    except sqlite3.DatabaseError as error:
        if not is_corrupt(error):
            raise
        row = None  # its records are told when they are asked for
    return None if row is None else AgeNote(row[0], row[0])


def _must_have(connection: sqlite3.Connection, key: str) -> bytes:
    value = get_meta(connection, key)
    if value is None:
        raise Corrupt(f"the log's own value `{key}`", "missing")
    return value
