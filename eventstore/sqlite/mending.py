"""What the writer makes again between two commits, where a look at the rows found it damaged."""

import contextlib
import functools
import sqlite3
from pathlib import Path
from typing import Final

from huahuo.eventstore.core.sums import row_crc, unlike
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.sqlite.connecting import connect_reader
from huahuo.eventstore.sqlite.looking_over import DERIVED
from huahuo.eventstore.sqlite.made_anew import drop_table, made_by, make_anew
from huahuo.eventstore.sqlite.rebuild import ROW_OF, copy_table, drop_misfits
from huahuo.eventstore.sqlite.salvage import FAULTS, from_both_ends, until_fault
from huahuo.eventstore.sqlite.schema import STAND_INS, SUMMED
from huahuo.eventstore.sqlite.store import SqliteStore

SALVAGED_MAX: Final = 500_000
"""Of a larger table no rows are copied: it would hold up the commits for more than some seconds."""


def mend(store: SqliteStore, table: str, *, pages_whole: bool) -> None:
    """Make a table in `DERIVED` anew, empty, or the indexes of another one from its rows.

    `pages_whole`: only rows of the table in `DERIVED` are damaged, and these alone are deleted.

    Raises:
        EventStoreError: it cannot be done, for example because two rows have one key.
    """
    if pages_whole:
        with contextlib.suppress(EventStoreError):  # a text that is none any more cannot be compared
            store.between_commits(functools.partial(drop_misfits, table=table))
            return
    if table in DERIVED:
        store.between_commits(functools.partial(make_anew, table=table))
        return
    try:
        store.between_commits(functools.partial(_reindex, table=table))
    except Corrupt:  # a page of the index cannot even be cleared
        store.between_commits(functools.partial(copy_table, table=table))


def salvage(path: Path, store: SqliteStore, table: str) -> int:
    """Make a table again of which a page is damaged, by its index. Returns how many rows are lost.

    Each lost row keeps its place as one that does not fit its checksum: it is refused, and told, alone. Else
    a row that is not found may be any of the lost ones, and each write to the page would be refused.

    Raises:
        EventStoreError: the index lacks rows, too, or there are too many.
    """
    lost = 0

    def again(connection: sqlite3.Connection) -> None:
        nonlocal lost
        # It meets the damaged pages: after that SQLite writes no more in a transaction.
        with contextlib.closing(connect_reader(path)) as looking:
            if _index_lacks_rows(looking, table):
                copy_table(connection, table)
            else:
                lost = _copied(connection, looking, table)

    store.between_commits(again)
    return lost


def _index_lacks_rows(looking: sqlite3.Connection, table: str) -> bool:
    """Whether only the index is damaged."""
    indexed = _numbers(looking, f"SELECT rowid FROM {table} INDEXED BY sqlite_autoindex_{table}_1")  # noqa: S608
    counted, whole = until_fault(looking, f"SELECT rowid FROM {table} NOT INDEXED ORDER BY rowid")  # noqa: S608
    rows = {number for (number,) in counted}
    if not whole:
        rows |= {n for (n,) in from_both_ends(looking, f"SELECT rowid FROM {table} NOT INDEXED", "rowid")}  # noqa: S608
    if rows <= indexed:
        return False
    if not whole or indexed - rows:
        raise EventStoreError("its index lacks rows, too")
    return True


def _numbers(looking: sqlite3.Connection, sql: str) -> set[int]:
    found = {number for (number,) in looking.execute(f"{sql} LIMIT ?", (SALVAGED_MAX + 1,))}
    if len(found) > SALVAGED_MAX:
        raise EventStoreError(f"it has more than {SALVAGED_MAX} rows")
    return found


def _copied(connection: sqlite3.Connection, looking: sqlite3.Connection, table: str) -> int:
    """Returns how many rows are lost. One that fits its checksum is right, whatever key its index has."""
    key, columns, lost = ROW_OF[table], ", ".join(SUMMED[table]), 0
    made, *indexes = made_by(connection, table)
    connection.execute(made.replace(table, "again", 1))
    marks = ", ".join("?" * (len(SUMMED[table]) + 2))
    put = f"INSERT INTO again (rowid, {columns}, crc) VALUES ({marks})"  # noqa: S608  constants
    listed = f"SELECT rowid, {key} FROM {table} INDEXED BY sqlite_autoindex_{table}_1 ORDER BY {key}"  # noqa: S608
    found = f"SELECT {columns}, crc FROM {table} NOT INDEXED WHERE rowid = ?"  # noqa: S608
    for rowid, *keys in looking.execute(listed):
        row = None
        with contextlib.suppress(*FAULTS):
            row = looking.execute(found, (rowid,)).fetchone()
        if row is None or not (list(row[: len(keys)]) == keys or row[-1] == row_crc(table, *row[:-1])):
            values = [*keys, *STAND_INS[table][len(keys) :]]
            row = (*values, unlike(row_crc(table, *values)))
            lost += 1
        connection.execute(put, (rowid, *row))
    drop_table(connection, table, (table,))
    connection.execute(f"ALTER TABLE again RENAME TO {table}")
    for sql in indexes:
        connection.execute(sql)
    return lost


def _reindex(connection: sqlite3.Connection, table: str) -> None:
    connection.execute(f"REINDEX {table}")
