"""What the tables of a log's file sum up to, by which a copy shows that no row was taken out of it.

No hash chain covers these rows, and a row that is gone fits no checksum that could fail.
"""

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from huahuo.eventstore.errors import Corrupt, Damaged
from huahuo.eventstore.sqlite.connecting import connect_reader
from huahuo.eventstore.sqlite.schema import SUMMED

type RowSums = dict[str, tuple[int, int]]
"""Of each table whose rows have checksums their number, and the sum of the checksums."""


def row_sums(path: Path) -> RowSums:
    """Those of the database `path`.

    Raises:
        Damaged: it cannot be read.
    """
    try:
        with contextlib.closing(connect_reader(path)) as connection:
            return {
                table: connection.execute(f"SELECT count(*), ifnull(sum(crc), 0) FROM {table}").fetchone()  # noqa: S608
                for table in sorted((*SUMMED, "pruned"))
            }
    except sqlite3.DatabaseError as error:
        raise Damaged(0, str(error)) from None


def must_sum_up_to(wanted: Mapping[str, tuple[int, int]], path: Path, made: str) -> None:
    """Raises Damaged: a table of the database `path` has other rows than were `made` ("backed up")."""
    found = row_sums(path)
    for table, sums in wanted.items():
        if (has := found.get(table, (0, 0))) != sums:
            raise Corrupt(f"table {table}", f"its {has[0]} rows are not the {sums[0]} that were {made}")
