"""The tables of a log when it is opened for writing: made, or refused."""

import sqlite3

from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.ended import MAKE_ENDED
from huahuo.eventstore.sqlite.passed import MAKE_PASSED
from huahuo.eventstore.sqlite.schema import (
    FORMAT,
    PRUNED_BY_SEQ,
    SEQ_INDEX,
    TABLES,
    UNIQUE,
    known_format,
    tables,
)
from huahuo.eventstore.sqlite.usage import MAKE_USAGE


def prepare(connection: sqlite3.Connection) -> bool:
    """Create the tables if there are none; returns whether the log is new. Call it in a transaction.

    Raises:
        EventStoreError: the tables were made by another version, or are not ours.
    """
    if known_format(connection):
        missing = {*TABLES, "seq_index", "ended", "usage", "passed"} - tables(connection)
        if missing:
            raise EventStoreError(f"the log lacks its tables {', '.join(sorted(missing))}")
        return False
    if tables(connection):
        raise EventStoreError("the file holds tables that are not a log's")
    import sqlite_utils  # here: it is a tenth of the imports of a start, and only a new log needs it
    from sqlite_utils import utils

    # If another SQLite library is installed, sqlite_utils prefers it; but two of them in one process drop
    # each other's file locks.
    if vars(utils)["sqlite3"] is not sqlite3:
        raise EventStoreError("sqlite_utils uses another SQLite library than Python: uninstall pysqlite3")
    db = sqlite_utils.Database(connection, recursive_triggers=False, execute_plugins=False)
    for name, (columns, key) in TABLES.items():
        db.table(name).create(columns, pk=key, not_null=set(columns), strict=True)
    for name, over in UNIQUE.items():
        db.table(name).create_index(over, index_name=f"{name}_unique", unique=True)
    connection.execute(SEQ_INDEX)
    connection.execute(PRUNED_BY_SEQ)
    connection.execute(MAKE_ENDED)
    connection.execute(MAKE_USAGE)
    connection.execute(MAKE_PASSED)
    seq_index.put_mark(connection, 0)
    connection.execute(f"PRAGMA user_version={FORMAT}")
    return True
