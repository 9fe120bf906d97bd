"""Reading rows of projections, each proven by its checksum."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from huahuo.eventstore.core.row_changes import HORIZONS
from huahuo.eventstore.model import RowRange
from huahuo.eventstore.sqlite.schema import Value, must_fit, row_crc

ALL_HORIZONS: Final = RowRange(HORIZONS, "", 1 << 30)
_SELECT: Final = "SELECT key, value, crc FROM projection WHERE tbl = ? AND part = ? {} LIMIT ?"


def select_range(connection: sqlite3.Connection, asked: RowRange) -> list[tuple[bytes, bytes]]:
    """The rows of a range. Raises Corrupt."""
    bounds, where = [asked.low], "AND key >= ?"
    if asked.high is not None:
        bounds.append(asked.high)
        where += " AND key <= ?"
    where += " ORDER BY key DESC" if asked.descending else " ORDER BY key"
    return _select(connection, asked.table, asked.part, where, (*bounds, asked.limit))


def select_page(
    connection: sqlite3.Connection,
    table: str,
    part: str,
    before: bytes | None,
    after: bytes | None,
    limit: int,
) -> list[tuple[bytes, bytes]]:
    """See `Log.rows`. Raises Corrupt."""
    if after is not None:
        return _select(connection, table, part, "AND key > ? ORDER BY key", (after, limit))
    if before is not None:
        return _select(connection, table, part, "AND key < ? ORDER BY key DESC", (before, limit))
    return _select(connection, table, part, "ORDER BY key DESC", (limit,))


def select_parts(connection: sqlite3.Connection, table: str, after: str | None, limit: int) -> list[str]:
    """See `Log.parts`. Each part is one look into the index, however many rows it has."""
    found: list[str] = []
    sql = "SELECT part FROM projection WHERE tbl = ? AND part {} ? ORDER BY part LIMIT 1"
    row = connection.execute(sql.format(">=" if after is None else ">"), (table, after or "")).fetchone()
    while row is not None and len(found) < limit:
        found.append(row[0])
        row = connection.execute(sql.format(">"), (table, row[0])).fetchone()
    return found


def _select(
    connection: sqlite3.Connection, table: str, part: str, where: str, values: Sequence[Value]
) -> list[tuple[bytes, bytes]]:
    found = connection.execute(_SELECT.format(where), (table, part, *values)).fetchall()
    for key, value, crc in found:  # `must_fit`, without its call: a start reads each open effect
        if crc != row_crc("projection", table, part, key, value):
            must_fit(crc, "projection", table, part, key, value)
    return [(key, value) for key, value, _ in found]
