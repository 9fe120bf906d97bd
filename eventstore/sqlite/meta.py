"""The table `meta`: one value per key, each with its checksum."""

import sqlite3

from huahuo.eventstore.core.sums import row_crc
from huahuo.eventstore.errors import Corrupt

FIRST_NUMBER = "first_number"
"""Key of the first number of a counter without a row, since its row may be among what a salvage lost."""


def put_meta(connection: sqlite3.Connection, key: str, value: bytes) -> None:
    """Write a value."""
    sql = "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)"
    connection.execute(sql, (key, value, row_crc("meta", key, value)))


def get_meta(connection: sqlite3.Connection, key: str) -> bytes | None:
    """The value of `key`, None if it has none.

    Raises:
        Corrupt: it is not what was written.
    """
    row = connection.execute("SELECT value, crc FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    value: bytes = row[0]
    if row[1] is not None and row[1] != row_crc("meta", key, value):
        raise Corrupt(f"the log's own value `{key}`", "it does not fit its checksum")
    return value
