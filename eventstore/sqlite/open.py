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
from typing import Self

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.fair_executor import FairExecutor
from huahuo.eventstore.core.kept import DEFAULT_LIMITS, KeptLimits
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.writer import Writer, WriterOf
from huahuo.eventstore.errors import MISREAD, Corrupt
from huahuo.eventstore.executor import Executor, ThreadExecutor
from huahuo.eventstore.sqlite.checked_opening import check_log
from huahuo.eventstore.sqlite.directory_lock import DirectoryLock
from huahuo.eventstore.sqlite.faults import no_room, translated, unusable
from huahuo.eventstore.sqlite.looking_over import LookingOver
from huahuo.eventstore.sqlite.loss import check_loss
from huahuo.eventstore.sqlite.mark import read_marks
from huahuo.eventstore.sqlite.meta import put_meta
from huahuo.eventstore.sqlite.page_faults import COPY
from huahuo.eventstore.sqlite.reads import SqliteReads
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.small_tables import check_small
from huahuo.eventstore.sqlite.store import SqliteStore

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
            opening = functools.partial(
                _open, directory, ambient, vault,
                restored=restored, limits=limits, log_id=log_id,
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
        looking = LookingOver(self._database, self.corruption, executor)
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
    def written_by_others(self) -> str:
        """What other programs did to the database's file before the start, "" if nothing is known."""
        return self._store.written_before

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
    limits: KeptLimits,
    log_id: str,
    alone: bool,
) -> tuple[SqliteStore, SqliteReads, Loaded]:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(directory)
    except OSError as error:
        raise no_room(error, directory) or unusable(error, directory) from None
    try:
        path = directory / DATABASE
        path.with_name(COPY).unlink(missing_ok=True)
        if not restored:
            check_loss(directory, lock.left, whole=not lock.lost_power)
        _make(path)
        if not restored:
            check_small(path, read_marks(directory) or [], lock.left)
        return check_log(
            path, lock=lock, ambient=ambient, vault=vault,
            restored=restored, limits=limits, log_id=log_id, alone=alone,
        )  # fmt: skip
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
