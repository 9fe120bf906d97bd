"""Rebuilding what is derived from a log's events, and what is there twice."""

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from huahuo.eventstore.core.sums import Value, row_crc
from huahuo.eventstore.errors import MISREAD, Damaged, EventStoreError, Lost
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.connecting import connect_reader, connect_writer
from huahuo.eventstore.sqlite.damage import broken_tables
from huahuo.eventstore.sqlite.directory_lock import lock_to_change
from huahuo.eventstore.sqlite.faults import no_room
from huahuo.eventstore.sqlite.index_proof import note_gaps
from huahuo.eventstore.sqlite.loading import select_end
from huahuo.eventstore.sqlite.loss import check_loss
from huahuo.eventstore.sqlite.made_anew import drop_table, made_by
from huahuo.eventstore.sqlite.mark import read_marks
from huahuo.eventstore.sqlite.meta import put_meta
from huahuo.eventstore.sqlite.naming import Naming, read_naming
from huahuo.eventstore.sqlite.old_formats import has_all_sums, is_old
from huahuo.eventstore.sqlite.page_faults import give_old_pages_back
from huahuo.eventstore.sqlite.put_right import put_right
from huahuo.eventstore.sqlite.remaking import remake_ended, remake_pruned
from huahuo.eventstore.sqlite.remaking_events import event_faults, remake_events
from huahuo.eventstore.sqlite.schema import DATABASE, SUMMED, make_index
from huahuo.eventstore.sqlite.table_faults import has_misfits
from huahuo.eventstore.sqlite.tail_check import UNPLACED
from huahuo.eventstore.sqlite.usage import FORGET_EVENTS

ROW_OF = {
    "meta": "key", "counter": "name", "command": "user, client, id", "data_key": "owner",
    "sealed": "owner, name", "blob": "id", "projection": "tbl, part, key",
    "ack": "user, client, stream", "pruned": "position",
}  # fmt: skip
"""The tables outside the chain whose index makes their rows unique, each with the columns of its key."""
_NEWEST = {"counter": "next DESC,", "ack": "seq DESC,"}
"""Which of two rows of one key is kept: that with the higher number, else the one written last."""
_UNREPEATED = (
    "INSERT INTO again (rowid, {columns}) SELECT rowid, {columns} FROM (SELECT rowid, *, row_number() OVER"
    " (PARTITION BY {key} ORDER BY {fits} {newest} rowid DESC) AS place FROM {table} NOT INDEXED)"
    " WHERE place = 1 ORDER BY rowid"
)


def rebuild(directory: Path) -> None:
    """Rebuild what is derived from the events: the index and its checksums, and SQLite's own indexes.

    Names that are damaged in one of their two copies are written again. Damaged keyframes, acks and counts of
    bytes are deleted, and the bytes of all events are counted again. The tables `ended`, and `pruned` if no
    event ever was, are made anew if a page of them is damaged. Of
    two rows with one key, which only a damaged index lets in, the one that was written last is kept.
    A changed position, stream, seq or link of an event is put right.
    Events that SQLite cannot read are searched for in the file's pages, and one changed byte of an event is
    put right; other damaged events stay damaged. No service may run on `directory`.

    Raises:
        InUse: a service runs. Lost: acknowledged events are gone; no file was changed.
        EventStoreError: the file cannot be written.
    """
    lock = lock_to_change(directory)
    try:
        path, marks = directory / DATABASE, read_marks(directory) or []
        # Before the first write, which could erase the evidence of a loss.
        try:
            check_loss(directory, lock.left, whole=not lock.lost_power)
        except Damaged:
            if put_right(path, marks, whole=True) is None:
                raise
            check_loss(directory, lock.left, whole=not lock.lost_power)
        remake_ended(path)
        remake_pruned(path)
        said = event_faults(path)
        for _ in ("events", "tombstones"):  # events say what tombstones are, once they are right themselves
            if said and put_right(path, marks, whole=True) is not None:
                said = event_faults(path)
        if said:
            remake_events(path, marks=marks, said=said)
            remake_pruned(path)  # it can be told now whether any event was pruned
        broken, naming = broken_tables(path), _names_in(path)
        with contextlib.closing(connect_writer(path)) as connection:
            if is_old(connection):
                raise EventStoreError("the log has an older format: start the service once")
            connection.execute("BEGIN IMMEDIATE")
            for table in ("ack", "usage"):
                if table not in broken and has_all_sums(connection) and has_misfits(connection, table):
                    drop_misfits(connection, table)
            _index_again(connection, broken)
            _write_names(connection, naming, broken)
            _make_seq_index(connection, naming, broken)
            _forget_keyframes(connection, broken)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        give_old_pages_back(path)
    except (sqlite3.Error, OSError, *MISREAD) as error:
        if (full := no_room(error, directory)) is not None:
            raise full from None
        raise EventStoreError(f"the log cannot be rebuilt: {error}; restore a backup") from None
    finally:
        lock.leave(None)


def make_seq_index_again(path: Path, *, accept: bool = True) -> None:
    """Make the index by stream and seq again, from the events: seconds per million.

    Raises Lost, unless `accept`: it is not known to which stream an event belongs. Then nothing is written.
    """
    broken, naming = broken_tables(path), _names_in(path)
    with contextlib.closing(connect_writer(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        misplaced = _make_seq_index(connection, naming, broken)
        if misplaced and not accept:
            raise Lost(misplaced, UNPLACED)
        connection.execute("COMMIT")


def _make_seq_index(connection: sqlite3.Connection, naming: Naming, broken: Mapping[str, bool]) -> int:
    """Returns the position of the first event whose place cannot be its own, 0 if there is none."""
    drop_table(connection, "seq_index", broken)
    make_index(connection)
    put_meta(connection, "indexed", b"0")
    caught = seq_index.catch_up(connection, naming)
    note_gaps(connection, naming, select_end(connection)[0])
    return caught.misplaced


def _names_in(path: Path) -> Naming:
    """By a connection of its own, since SQLite writes no more in a transaction that met a damaged page."""
    with contextlib.closing(connect_reader(path)) as connection:
        return read_naming(connection, whole=False)


def _write_names(connection: sqlite3.Connection, naming: Naming, broken: Mapping[str, bool]) -> None:
    """Make `stream` and `name` anew, and their indexes. What is left of a name that is lost stays."""
    streams = [(number, name, naming.first(number)) for number, name in naming.streams.items()]
    rows: list[tuple[Value, ...]] = [(*row, row_crc("stream", *row)) for row in streams]
    if "stream" not in broken:
        sql = "SELECT id, CAST(name AS BLOB), first, crc FROM stream NOT INDEXED"
        for number, name, first, crc in connection.execute(sql):
            if number in naming.lost:
                rows.append((number, name.decode(errors="replace"), first, crc))
    _make_again(connection, "stream", "name", rows, broken)
    _make_again(connection, "name", "text", _texts(connection, naming, broken), broken)


def _texts(
    connection: sqlite3.Connection, naming: Naming, broken: Mapping[str, bool]
) -> list[tuple[Value, ...]]:
    """The rows of `name`. One that nothing proves keeps a checksum that it does not fit."""
    proven = {number: text for number, text in naming.texts.items() if number not in naming.unproven}
    rows: list[tuple[Value, ...]] = [
        (number, text, row_crc("name", number, text)) for number, text in proven.items()
    ]
    left = {
        number: (text, row_crc("name", number, text) ^ 1)
        for number, text in naming.texts.items()
        if number in naming.unproven
    }
    if left and "name" not in broken:
        sql = "SELECT id, CAST(text AS BLOB), crc FROM name NOT INDEXED"
        for number, text, crc in connection.execute(sql):
            if number in left:
                left[number] = text.decode(errors="replace"), crc
    taken = set(proven.values())
    return rows + [(number, *row) for number, row in left.items() if row[0] not in taken]


def _make_again(
    connection: sqlite3.Connection,
    table: str,
    unique: str,
    rows: Iterable[tuple[Value, ...]],
    broken: Mapping[str, bool],
) -> None:
    made = made_by(connection, table)[0]
    drop_table(connection, table, broken)
    connection.execute(made)
    for row in rows:
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608  constants
    connection.execute(f"CREATE UNIQUE INDEX {table}_unique ON {table} ({unique})")


def _forget_keyframes(connection: sqlite3.Connection, broken: Mapping[str, bool]) -> None:
    """Delete the damaged keyframes; all of them if a page is damaged. They are made again."""
    if "keyframe" not in broken:
        columns = ", ".join(SUMMED["keyframe"])
        connection.execute("REINDEX keyframe")
        connection.execute(f"DELETE FROM keyframe WHERE crc <> row_crc('keyframe', {columns})")  # noqa: S608
        return
    [sql] = made_by(connection, "keyframe")
    drop_table(connection, "keyframe", broken)
    connection.execute(sql)


def _index_again(connection: sqlite3.Connection, broken: Mapping[str, bool]) -> None:
    """Make SQLite's indexes again.

    A table whose own pages or rows are damaged is left: its index is then the evidence of what is missing.
    """
    for table, key in ROW_OF.items():
        only_indexes = broken.get(table)
        if only_indexes is False or (table in SUMMED and has_misfits(connection, table)):
            continue
        counted = f"SELECT 1 FROM {table} NOT INDEXED GROUP BY {key}"  # noqa: S608  constants
        if only_indexes or connection.execute(f"{counted} HAVING count(*) > 1 LIMIT 1").fetchone():
            _copy(connection, table, key, broken)
        else:
            connection.execute(f"REINDEX {table}")


def drop_misfits(connection: sqlite3.Connection, table: str) -> None:
    """Delete the rows of a table whose content comes again by itself that do not fit their checksum."""
    columns = ", ".join(SUMMED[table])
    connection.execute(f"DELETE FROM {table} WHERE crc <> row_crc('{table}', {columns})")  # noqa: S608  constants
    if table == "usage":
        connection.execute(FORGET_EVENTS)
        connection.execute("DELETE FROM meta WHERE key = 'counted'")  # all events are counted again


def copy_table(connection: sqlite3.Connection, table: str) -> None:
    """Make `table` anew from its rows, where only pages of its indexes are damaged. In a transaction."""
    _copy(connection, table, ROW_OF[table], {table: True})


def _copy(connection: sqlite3.Connection, table: str, key: str, broken: Mapping[str, bool]) -> None:
    """Put the rows of `table` into a new one, one for each key: what its index lacks cannot be deleted."""
    columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    fits = f"crc = row_crc('{table}', {', '.join(SUMMED[table])}) DESC," if table in SUMMED else ""
    made, *indexes = made_by(connection, table)
    connection.execute(made.replace(table, "again", 1))
    connection.execute(
        _UNREPEATED.format(
            table=table, key=key, columns=", ".join(columns), fits=fits, newest=_NEWEST.get(table, "")
        )
    )
    drop_table(connection, table, broken)
    connection.execute(f"ALTER TABLE again RENAME TO {table}")
    for sql in indexes:
        connection.execute(sql)
