"""How far a replica applied the ordered log: one value in `meta`, and the newest ends of its chain.

Written in the transaction of the group that it is about, so that neither is ever without the other.
"""

import sqlite3
from collections.abc import Iterator

import msgspec

from huahuo.eventstore.core.changes import PASSED_KEPT, Passed, PutPassed
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.sums import Value, must_fit, row_crc
from huahuo.eventstore.sqlite.meta import get_meta

SHARED_KEY = "shared"
MAKE_PASSED = (
    "CREATE TABLE IF NOT EXISTS passed"
    " (offset INTEGER PRIMARY KEY, chain BLOB NOT NULL, digest BLOB NOT NULL, crc INTEGER NOT NULL) STRICT"
)


def statements(put: PutPassed) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """The statements for it."""
    crc = row_crc("meta", SHARED_KEY, put.shared)
    yield "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (SHARED_KEY, put.shared, crc)
    for one in put.passed:
        crc = row_crc("passed", one.offset, one.chain, one.digest)
        yield "INSERT OR REPLACE INTO passed VALUES (?, ?, ?, ?)", (one.offset, one.chain, one.digest, crc)
    if put.passed:
        yield "DELETE FROM passed WHERE offset <= ?", (put.passed[-1].offset - PASSED_KEPT,)


def leave_order(connection: sqlite3.Connection) -> None:
    """Forget the ordered log: from here on this is the log of a single service."""
    connection.execute("DELETE FROM meta WHERE key = ?", (SHARED_KEY,))
    connection.execute("DELETE FROM passed")


def with_passed(connection: sqlite3.Connection, loaded: Loaded) -> Loaded:
    """`loaded` with what the last `PutPassed` wrote. Raises Corrupt: it is not what was written."""
    shared = get_meta(connection, SHARED_KEY)
    if shared is None:
        return loaded
    passed = []
    for offset, chain, digest, crc in connection.execute("SELECT * FROM passed ORDER BY offset"):
        must_fit(crc, "passed", offset, chain, digest)
        passed.append(Passed(offset, chain, digest))
    return msgspec.structs.replace(loaded, shared=shared, passed=tuple(passed))
