"""Whether a row that SQLite's index did not find is absent, or hidden by a damaged entry of the index.

A search that a changed key misleads ends next to that key: it took the wrong way there, and all other keys
led it back. So the entries next to where the row would be are compared with their rows. What else may hide a
row, such as a page that has another number of entries, is found by the look after the start (`looking_over`).
"""

import sqlite3
from collections.abc import Sequence
from itertools import batched

from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.sqlite.table_faults import index_of

_KEYS = {
    "command": ("user", "client", "id"), "projection": ("tbl", "part", "key"), "sealed": ("owner", "name"),
}  # fmt: skip
_SIDES = (("<", "DESC"), (">", "ASC"))
_OWNERS_A_STATEMENT = 256


def _sql(table: str, columns: tuple[str, ...]) -> str:
    key, asked = ", ".join(columns), ", ".join("?" * len(columns))
    sides = " UNION ALL ".join(
        f"SELECT * FROM (SELECT rowid AS at, {key} FROM {table} WHERE ({key}) {side} ({asked})"  # noqa: S608
        f" ORDER BY {', '.join(f'{column} {way}' for column in columns)} LIMIT 1)"
        for side, way in _SIDES
    )
    differs = " OR ".join(f"found.{column} IS NOT near.{column}" for column in columns)
    return (
        f"SELECT 1 FROM ({sides}) AS near LEFT JOIN {table} AS found ON found.rowid = near.at WHERE {differs}"  # noqa: S608
    )


_SQL = {table: _sql(table, columns) for table, columns in _KEYS.items()}


def must_be_absent(connection: sqlite3.Connection, table: str, *key: str | bytes) -> None:
    """Call it when the row of `table` with this key was not found.

    Raises:
        Corrupt: the index may hide it.
    """
    if connection.execute(_SQL[table], key * len(_SIDES)).fetchone() is not None:
        raise _hidden(table)


def owners_must_be_absent(connection: sqlite3.Connection, owners: Sequence[str]) -> None:
    """As `must_be_absent`, for owners without a row in `data_key`: many of them in few statements.

    Each statement of the writer must get the interpreter back, and an import has thousands of new owners.
    """
    for some in batched(owners, _OWNERS_A_STATEMENT):
        if connection.execute(_owners_sql(len(some)), some).fetchone() is not None:
            raise _hidden("data_key")


def _owners_sql(count: int) -> str:
    entry = "SELECT {} FROM data_key WHERE owner {} asked.owner ORDER BY owner {} LIMIT 1"
    sides = " UNION ALL ".join(
        f"SELECT ({entry.format('owner', side, way)}), ({entry.format('rowid', side, way)}) FROM asked"  # noqa: S608
        for side, way in _SIDES
    )
    return (
        f"WITH asked (owner) AS (VALUES {', '.join(['(?)'] * count)}), near (owner, at) AS ({sides})"  # noqa: S608
        " SELECT 1 FROM near LEFT JOIN data_key AS found ON found.rowid = near.at"
        " WHERE found.owner IS NOT near.owner LIMIT 1"
    )


def _hidden(table: str) -> Corrupt:
    return Corrupt(index_of(table), "an entry is not the key of its row")
