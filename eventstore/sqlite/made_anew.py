"""Tables that are made anew, empty, by the statements that made them."""

import sqlite3
from collections.abc import Container, Sequence


def made_by(connection: sqlite3.Connection, table: str) -> Sequence[str]:
    """The statements that made `table` and its named indexes, the table's first."""
    sql = "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type = 'index'"
    return [made for (made,) in connection.execute(sql, (table,))]


def drop_table(connection: sqlite3.Connection, table: str, broken: Container[str]) -> None:
    """Drop `table`. If it is in `broken`, only forget it: its pages stay in the file, unused."""
    if table not in broken:
        connection.execute(f"DROP TABLE {table}")
        return
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute("DELETE FROM sqlite_master WHERE tbl_name = ?", (table,))
    connection.execute("PRAGMA writable_schema=RESET")


def make_anew(connection: sqlite3.Connection, table: str) -> None:
    """Replace `table`, of which a page is damaged, by an empty one."""
    made = made_by(connection, table)
    drop_table(connection, table, (table,))
    for sql in made:
        connection.execute(sql)
    if table == "usage":
        connection.execute("DELETE FROM meta WHERE key = 'counted'")  # all events are counted again
