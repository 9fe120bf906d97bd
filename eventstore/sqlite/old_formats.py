"""Logs whose tables have an older format: read as they are, or upgraded when they are opened for writing.

Format 3 had no checksums in `ack` and `usage`, format 2 had none at all, and format 1 had an index of
SQLite's own in place of `seq_index`.
"""

import contextlib
import sqlite3
from pathlib import Path

import structlog

from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.made_anew import make_anew
from huahuo.eventstore.sqlite.naming import read_naming
from huahuo.eventstore.sqlite.schema import FORMAT, PRUNED_BY_SEQ, SEQ_INDEX, SUMMED, tables

_log = structlog.get_logger(__name__)

_FIRST_WITH_SUMS = 3
_SUMMED_LATER = ("ack", "usage")
"""What has checksums since format 4."""


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Make of tables of format `version` those of the present one. Call it in a transaction."""
    _log.info("log_brought_up_to_date", format=version, to=FORMAT)
    for table in SUMMED:
        _add_sums(connection, table)
    if version < _FIRST_WITH_SUMS:
        _bring_up_to_date(connection, version)
    connection.execute(f"PRAGMA user_version={FORMAT}")
    _log.info("log_is_up_to_date", format=FORMAT)


def _bring_up_to_date(connection: sqlite3.Connection, version: int) -> None:
    """Upgrade the tables in one pass over the events, each checked against the chain: seconds per million."""
    connection.execute("ALTER TABLE pruned ADD COLUMN crc INTEGER NOT NULL DEFAULT 0")
    connection.execute(PRUNED_BY_SEQ)
    connection.execute("DROP INDEX event_unique" if version == 1 else "DROP TABLE seq_index")
    connection.execute(SEQ_INDEX)
    seq_index.put_mark(connection, 0)
    seq_index.catch_up(connection, read_naming(connection))


def _add_sums(connection: sqlite3.Connection, table: str) -> None:
    """Add the column of checksums to a table that has none, with that of each row as it is.

    One with a damaged page is made anew if what it holds comes again by itself.
    """
    if has_sums(connection, table):
        return
    listed = ", ".join(SUMMED[table])
    if table in _SUMMED_LATER and not _is_whole(connection, table):
        make_anew(connection, table)
    connection.execute(f"ALTER TABLE {table} ADD COLUMN crc INTEGER NOT NULL DEFAULT 0")
    connection.execute(f"UPDATE {table} SET crc = row_crc('{table}', {listed})")  # noqa: S608  constants


def has_sums(connection: sqlite3.Connection, table: str) -> bool:
    """Whether the rows of `table` carry checksums. In a file of an older format some do not."""
    columns = connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
    return ("crc",) in columns


def _is_whole(connection: sqlite3.Connection, table: str) -> bool:
    """Whether no page of `table` is damaged. By another connection: after damage SQLite writes no more."""
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    with contextlib.closing(sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True)) as looking:
        try:
            return bool(looking.execute(f"PRAGMA quick_check('{table}')").fetchone()[0] == "ok")
        except sqlite3.DatabaseError:
            return False


def is_old(connection: sqlite3.Connection) -> bool:
    """Whether the log has a format without checksums."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return 0 < version < _FIRST_WITH_SUMS


def has_all_sums(connection: sqlite3.Connection) -> bool:
    """Whether every table of `SUMMED` has its checksums. A file without tables counts as such."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version == 0 or version >= FORMAT


def show_as_present(connection: sqlite3.Connection) -> None:
    """Present a log of an older format as one of the present format whose checksums are unknown."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    made = tables(connection)
    for table in (*SUMMED, "pruned") if version < _FIRST_WITH_SUMS else _SUMMED_LATER:
        rows = f"SELECT *, NULL AS crc FROM main.{table}"  # noqa: S608  constants
        if table not in made:
            rows = "SELECT " + ", ".join(f"NULL AS {name}" for name in (*SUMMED[table], "crc")) + " WHERE 0"
        connection.execute(f"CREATE TEMP VIEW {table} AS {rows}")
    if version >= _FIRST_WITH_SUMS:
        return
    places = "main.event" if version == 1 else "main.seq_index"
    connection.execute(
        f"CREATE TEMP VIEW seq_index AS SELECT stream, seq, position, NULL AS crc FROM {places}"  # noqa: S608
    )
