"""The SQLite engine: opening a directory, as a log of its own or as one node's replica of an ordered log.

DIR/log.db        the log and what commits with it (mode 0600; -wal and -shm next to it)
DIR/log.mark      a position that the log must reach (`huahuo.eventstore.sqlite.mark`)
DIR/writer.lock   which process writes, or how the log was left

A file that is there is checked before it may be written again: its tables, its checksums, its index, its
end.
"""

import contextlib
import functools
import os
import sqlite3
from pathlib import Path
from typing import Self

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.atomic_file import sync_folder
from huahuo.eventstore.core.command_records import AGE_KEY, DEFAULT_LIMITS, AgeNote, KeptLimits
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.storage_port import Loaded, Passed, PutMeta, PutPassed
from huahuo.eventstore.core.writer import Writer, WriterOf
from huahuo.eventstore.errors import MISREAD, Corrupt, EventStoreError, WrongKey
from huahuo.eventstore.executor import Executor, FairExecutor, ThreadExecutor
from huahuo.eventstore.limits import INT64_MAX
from huahuo.eventstore.replicated.opening import Held, open_replica
from huahuo.eventstore.replicated.state_machine import after_birth, dump_shared, load_shared
from huahuo.eventstore.sequencer.port import Sequencer
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.changes import (
    MAKE_PASSED,
    follows_an_order,
    leave_order,
    read_passed,
    statements_of_passed,
    with_passed,
)
from huahuo.eventstore.sqlite.connections import (
    connect_reader,
    connect_writer,
    is_corrupt,
    no_room,
    translated,
    unusable,
)
from huahuo.eventstore.sqlite.damage import COPY, TableScan, check_first, check_pages, check_small
from huahuo.eventstore.sqlite.directory_lock import DirectoryLock, lock_to_change
from huahuo.eventstore.sqlite.initial_state import load, prove_index, select_end, tail_damage
from huahuo.eventstore.sqlite.mark import MARK, Mark, MarkFile, check_loss, read_marks
from huahuo.eventstore.sqlite.names import MAKE_ENDED, Names, read_naming
from huahuo.eventstore.sqlite.reads import SqliteReads
from huahuo.eventstore.sqlite.schema import (
    COMMAND_FITS,
    DATABASE,
    FIRST_NUMBER,
    FORMAT,
    MAKE_USAGE,
    PRUNED_BY_SEQ,
    SEQ_INDEX,
    TABLES,
    UNIQUE,
    get_meta,
    known_format,
    put_meta,
    tables,
)
from huahuo.eventstore.sqlite.store import SqliteStore
from huahuo.eventstore.sqlite.unindexed import Unindexed


def prepare(connection: sqlite3.Connection) -> bool:
    """Create the tables if there are none; returns whether the log is new. Call it in a transaction.

    Raises:
        EventStoreError: the tables were made by another version, or are not ours.
    """
    if known_format(connection):
        missing = {*TABLES, "seq_index", "ended", "usage", "passed"} - tables(connection)
        if missing:
            raise EventStoreError(f"the log lacks its tables {', '.join(sorted(missing))}")
        return False
    if tables(connection):
        raise EventStoreError("the file holds tables that are not a log's")
    import sqlite_utils  # here: it is a tenth of the imports of a start, and only a new log needs it
    from sqlite_utils import utils

    # If another SQLite library is installed, sqlite_utils prefers it; but two of them in one process drop
    # each other's file locks.
    if vars(utils)["sqlite3"] is not sqlite3:
        raise EventStoreError("sqlite_utils uses another SQLite library than Python: uninstall pysqlite3")
    db = sqlite_utils.Database(connection, recursive_triggers=False, execute_plugins=False)
    for name, (columns, key) in TABLES.items():
        db.table(name).create(columns, pk=key, not_null=set(columns), strict=True)
    for name, over in UNIQUE.items():
        db.table(name).create_index(over, index_name=f"{name}_unique", unique=True)
    connection.execute(SEQ_INDEX)
    connection.execute(PRUNED_BY_SEQ)
    connection.execute(MAKE_ENDED)
    connection.execute(MAKE_USAGE)
    connection.execute(MAKE_PASSED)
    seq_index.put_mark(connection, 0)
    connection.execute(f"PRAGMA user_version={FORMAT}")
    return True


class _How(msgspec.Struct, frozen=True):
    """How a directory is opened: see `SqliteLog.open`. `alone`: not as the replica of an ordered log."""

    ambient: Ambient
    vault: Vault
    restored: bool
    limits: KeptLimits
    log_id: str
    alone: bool


def _checked_store(
    path: Path, connection: sqlite3.Connection, lock: DirectoryLock, how: _How
) -> tuple[SqliteStore, SqliteReads, Loaded]:
    """Everything that must hold before the log may be written again."""
    # The commits of a killed process may be in the page cache only: make them durable before they are read.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if lock.lost_power:  # reads every page: seconds if the log is large
        with contextlib.closing(connect_reader(path)) as looking:
            check_pages(looking)
    connection.execute("BEGIN IMMEDIATE")
    # Before the first write, so that what is damaged stays as it was found; and by a connection of its own,
    # since SQLite writes no more in a transaction that met a damaged page.
    with contextlib.closing(connect_reader(path)) as looking:
        check_first(looking)
    _identify(connection, path, how)
    naming = read_naming(connection)
    links = seq_index.catch_up(connection, naming, whole=not how.restored)
    lasts = prove_index(connection, naming, select_end(connection)[0])
    master_key, old_epoch = (_must_have(connection, key) for key in ("master_key", "writer_epoch"))
    if not how.vault.knows(master_key):
        raise WrongKey(f"the log in {path.parent} was made with another master key")
    epoch = int(old_epoch) + 1
    put_meta(connection, "writer_epoch", str(epoch).encode())
    connection.execute("COMMIT")
    if how.restored:
        # The new id must not be lost with the write-ahead log: the mark belongs to it.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    damages = tail_damage(connection, naming, lasts, links, lock.left)
    names, unindexed = Names(), Unindexed()
    reads = SqliteReads(path, names, unindexed)
    loaded = load(connection, names, unindexed, naming, summed=True, links=links, lasts=lasts)
    noted = {"first_number": _first_number(connection), "age": _age_note(connection)}
    loaded = with_passed(connection, msgspec.structs.replace(loaded, **noted))
    for damage in damages:
        reads.corruption.note(damage)
    counted = sum(loaded.counters.values())
    mark = MarkFile(path.with_name(MARK), Mark(loaded.log_id, loaded.position, loaded.chain, counted))
    try:
        store = SqliteStore(path, connection, names, unindexed, reads, lock, epoch, loaded, mark, how.limits)
        lock.hold()
    except BaseException:
        mark.close()
        raise
    return store, reads, loaded


def _identify(connection: sqlite3.Connection, path: Path, how: _How) -> None:
    """Give a new log its id, and one that was restored another."""
    if prepare(connection):
        put_meta(connection, "log", (how.log_id or how.ambient.token()).encode())
        put_meta(connection, "writer_epoch", b"0")
        put_meta(connection, "master_key", how.vault.mark())
    elif how.restored:
        put_meta(connection, "log", how.ambient.token().encode())
        leave_order(connection)
    elif how.alone and follows_an_order(connection):
        raise EventStoreError(
            f"{path.parent} is a replica of a log that several nodes share: only its node writes it, by"
            " `huahuo serve --log …`. Ask that node, or restore a backup of it as a single service"
        )


def _first_number(connection: sqlite3.Connection) -> int:
    """The first number of a counter without a row."""
    return int(get_meta(connection, FIRST_NUMBER) or b"1")


def _age_note(connection: sqlite3.Connection) -> AgeNote | None:
    """The last note of the command records' clock, or else the time of the newest record."""
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


_READERS = 2
_READS_A_TURN = 16
"""So many reads of a user that wait take half of the processor time of as many turns, and no time more."""


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
        limits: KeptLimits = DEFAULT_LIMITS,
        writer_of: WriterOf = Writer,
        log_id: str = "",
    ) -> Self:
        """Open the log in `directory`, created if necessary. The caller closes the executors that it passes.

        `restored` says that the files come from a backup. Numbers may have gone back, so the log gets a
        new id; and it may end at another position than that at which the directory was left.
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
            readers = FairExecutor(
                ThreadExecutor(_READERS, "log-reader"),
                at_once=2 * _READERS,
                jobs_a_turn=_READS_A_TURN,
                now_s=ambient.monotonic_s,
            )
            owned.append(readers)
        vault = Vault(master_key, ambient)
        try:
            how = _How(ambient, vault, restored, limits, log_id, writer_of is Writer)
            store, reads, loaded = await writer.run(lambda: _open(directory, how))
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

    def look_over(self, executor: Executor) -> TableScan:
        """Begin to look for rows that a damaged page hides, by an executor that has nothing else to do.

        The caller stops it before it closes the log; that closes the executor.
        """
        looking = TableScan(self._database, self.corruption, executor)
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
        await self._write((PutMeta(key, value),), len(value))

    @property
    def command_records(self) -> int:
        """How many command records are kept."""
        return self._store.kept.commands.total

    @property
    def written_by_others(self) -> str:
        """What other programs did to the database's file before the start, "" if nothing is known."""
        return self._store.written_before

    @property
    def ack_clients(self) -> int:
        """How many clients have acks on disk."""
        return len(self._store.kept.ack_clients)


def _open(directory: Path, how: _How) -> tuple[SqliteStore, SqliteReads, Loaded]:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(directory)
    except OSError as error:
        raise no_room(error, directory) or unusable(error, directory) from None
    try:
        path = directory / DATABASE
        path.with_name(COPY).unlink(missing_ok=True)
        if not how.restored:
            check_loss(directory, lock.left, whole=not lock.lost_power)
        _make_file(path)
        if not how.restored:
            check_small(path, read_marks(directory) or [], lock.left)
        connection = connect_writer(path)
        try:
            return _checked_store(path, connection, lock, how)
        except BaseException:
            connection.close()
            raise
    except BaseException as error:
        lock.leave(None)
        if isinstance(error, sqlite3.Error | OSError) and (full := no_room(error, directory)) is not None:
            raise full from None
        if isinstance(error, sqlite3.Error):
            raise translated(error) from None
        if isinstance(error, OSError):
            raise unusable(error, directory) from None
        if isinstance(error, MISREAD):
            raise Corrupt("the log's file", f"a value is none that was written ({error})") from error
        raise


def _make_file(path: Path) -> None:
    """Create the database file with its mode, before SQLite would with a wider one."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        # Do not open it here: closing any descriptor of it would drop SQLite's locks in this process.
        path.chmod(0o600)
        return
    sync_folder(path.parent)


async def open_log(
    directory: Path,
    *,
    ambient: Ambient,
    master_key: bytes,
    build: str,
    sequencer: Sequencer,
    node: str,
    limits: KeptLimits = DEFAULT_LIMITS,
    writer: Executor | None = None,
) -> SqliteLog:
    """The replica of `node` in `directory`, created if necessary. Raises as `open_replica`.

    Command records are forgotten by their age alone: which of them exist decides appends, so a bound on
    their number would have to strike every replica at one moment.
    """
    unbounded = msgspec.structs.replace(
        limits, command_records_per_user=INT64_MAX, command_records_max=INT64_MAX
    )
    engine = functools.partial(
        SqliteLog.open, directory,
        ambient=ambient, master_key=master_key, build=build, limits=unbounded, writer=writer,
    )  # fmt: skip
    return await open_replica(
        engine, ambient=ambient, master_key=master_key, sequencer=sequencer, node=node,
        held=held_in(directory),
    )  # fmt: skip


def held_in(directory: Path) -> Held | None:
    """The replica in `directory`, None if there is none.

    Raises:
        EventStoreError: the files can't be read, or are the log of a single service.
        Corrupt: what they say of it is not what was written.
    """
    path = directory / DATABASE
    if not path.is_file():
        return None
    try:
        # A reader: closing the last connection that writes would run a checkpoint, before what is damaged in
        # the write-ahead log was looked at.
        with contextlib.closing(connect_reader(path)) as connection:
            connection.execute("BEGIN")
            if "meta" not in tables(connection):
                return None  # the first start was cut off
            found, log_id = read_passed(connection), get_meta(connection, "log")
            used = connection.execute("SELECT 1 FROM event LIMIT 1").fetchone()
    except sqlite3.OperationalError as error:
        raise EventStoreError(f"{path} can't be read: {error}") from error
    except (sqlite3.DatabaseError, *MISREAD) as error:
        raise Corrupt("the log's file", str(error)) from error
    if found is None and used:
        raise EventStoreError(
            f"{directory} holds the log of a single service, with events that no other node has:"
            " give this node an empty --data, or make this one the first node of an empty ordered log by"
            " `huahuo cluster adopt`"
        )
    if found is None or log_id is None:
        return None
    shared = load_shared(found[0])
    return Held(log_id.decode(), shared.offset, shared.digest)


def must_know(directory: Path) -> None:
    """Raises EventStoreError: a newer version wrote the log in `directory`, or its file can't be read."""
    try:
        with contextlib.closing(connect_reader(directory / DATABASE)) as connection:
            known_format(connection)
    except sqlite3.Error as error:
        raise EventStoreError(f"{directory / DATABASE} can't be read: {error}") from error


def is_replica(directory: Path) -> bool:
    """Whether `directory` holds a node's replica, and not the log of a single service or nothing."""
    try:
        return held_in(directory) is not None
    except EventStoreError:
        return False


def larger_event(directory: Path, bytes_max: int) -> tuple[int, str, str, int] | None:
    """The first event with a body over `bytes_max`: its position, stream, type and size. None: there is none.

    Raises:
        EventStoreError: the files can't be read.
    """
    path = directory / DATABASE
    try:
        with contextlib.closing(connect_reader(path)) as connection:
            found = connection.execute(
                "SELECT event.position, stream.name, name.text, length(event.body) FROM event"
                " JOIN stream ON stream.id = event.stream JOIN name ON name.id = event.type"
                " WHERE length(event.body) > ? ORDER BY event.position LIMIT 1",
                (bytes_max,),
            ).fetchone()
    except sqlite3.Error as error:
        raise EventStoreError(f"{path} can't be read: {error}") from error
    return None if found is None else (int(found[0]), str(found[1]), str(found[2]), int(found[3]))


def become_replica(directory: Path, chain: bytes) -> None:
    """Note that the closed log in `directory` follows an ordered log whose birth it has applied.

    `chain`: the end of its chain. Raises InUse, or EventStoreError: the files can't be written.
    """
    shared = after_birth()
    put = PutPassed(dump_shared(shared), (Passed(shared.offset, chain, shared.digest),))
    path, lock = directory / DATABASE, lock_to_change(directory)
    try:
        with contextlib.closing(connect_writer(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement, values in statements_of_passed(put):
                connection.execute(statement, values)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise EventStoreError(f"{path} can't be written: {error}") from error
    finally:
        lock.leave(None)
