"""Opening a directory as one node's replica of an ordered log."""

import contextlib
import functools
import sqlite3
from pathlib import Path

import msgspec

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.changes import Passed, PutPassed
from huahuo.eventstore.core.kept import DEFAULT_LIMITS, KeptLimits
from huahuo.eventstore.errors import MISREAD, Corrupt, EventStoreError
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.limits import INT64_MAX
from huahuo.eventstore.replicated.apply import after_birth
from huahuo.eventstore.replicated.opening import Held, open_replica
from huahuo.eventstore.replicated.shared import dump, load
from huahuo.eventstore.sequencer.port import Sequencer
from huahuo.eventstore.sqlite.connecting import connect_reader, connect_writer
from huahuo.eventstore.sqlite.directory_lock import lock_to_change
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.passed import read_passed, statements
from huahuo.eventstore.sqlite.schema import DATABASE, known_format, tables


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
    shared = load(found[0])
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
    put = PutPassed(dump(shared), (Passed(shared.offset, chain, shared.digest),))
    path, lock = directory / DATABASE, lock_to_change(directory)
    try:
        with contextlib.closing(connect_writer(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement, values in statements(put):
                connection.execute(statement, values)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise EventStoreError(f"{path} can't be written: {error}") from error
    finally:
        lock.leave(None)
