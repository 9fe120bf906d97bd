"""The pages of the database that a connection keeps in memory."""

import contextlib
import sqlite3
from collections.abc import Iterator

_PASSING_KIB = 2048


@contextlib.contextmanager
def passing_through(connection: sqlite3.Connection) -> Iterator[None]:
    """For a walk over a whole table, of whose pages none is needed twice: few are kept.

    Otherwise they would take all the room that is meant for commits, as long as the process lives: what
    SQLite gives back in such small pieces stays with the process.
    """
    [kept] = connection.execute("PRAGMA cache_size").fetchone()
    connection.execute(f"PRAGMA cache_size=-{_PASSING_KIB}").close()
    try:
        yield
    finally:
        connection.execute(f"PRAGMA cache_size={int(kept)}").close()
