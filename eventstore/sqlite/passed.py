"""How far a replica applied the ordered log: one value in `meta`, and the newest ends of its chain.

Written in the transaction of the group that it is about, so that neither is ever without the other.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.changes import PASSED_KEPT, Passed, PutPassed
from huahuo.eventstore.core.place import Loaded
from huahuo.eventstore.core.sums import Value, must_fit, row_crc
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.replicated.shared import load
from huahuo.eventstore.sqlite.meta import get_meta

SHARED_KEY = "shared"
_PLACE: Final = "the note of what this node has applied"
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


def follows_an_order(connection: sqlite3.Connection) -> bool:
    """Whether the log is a node's replica, as far as its rows say: one of the two may be lost."""
    return get_meta(connection, SHARED_KEY) is not None or next(_rows(connection), None) is not None


def read_passed(connection: sqlite3.Connection) -> tuple[bytes, tuple[Passed, ...]] | None:
    """What the last `PutPassed` wrote, and the newest ends; None if the log is no replica. In a transaction.

    A row that was lost, or an older copy of one, fits its checksum. So the rows are compared with one another
    and with the end of the log: a node that took a wrong one for its own would apply proposals twice, or
    would believe that the others differ.

    Raises:
        Corrupt: it is not what was written.
    """
    shared, passed = get_meta(connection, SHARED_KEY), tuple(_rows(connection))
    if shared is None and not passed:
        return None
    if shared is None:
        raise Corrupt(_PLACE, f"it is missing, and proposals up to {passed[-1].offset} were applied")
    noted = load(shared)
    if [one.offset for one in passed] != [*range(noted.offset - len(passed) + 1, noted.offset + 1)]:
        raise Corrupt(_PLACE, f"it says {noted.offset}, and the rows before it are others, or not all there")
    row = connection.execute("SELECT chain FROM event ORDER BY position DESC LIMIT 1").fetchone()
    end = Passed(noted.offset, row[0] if row else GENESIS, noted.digest)
    if passed[-1:] != (end,):
        raise Corrupt(_PLACE, f"what was applied up to proposal {noted.offset} is not what the log ends with")
    return shared, passed


def with_passed(connection: sqlite3.Connection, loaded: Loaded) -> Loaded:
    """`loaded` with what `read_passed` finds. Raises as that."""
    found = read_passed(connection)
    return loaded if found is None else msgspec.structs.replace(loaded, shared=found[0], passed=found[1])


def _rows(connection: sqlite3.Connection) -> Iterator[Passed]:
    """The newest ends, oldest first."""
    for offset, chain, digest, crc in connection.execute("SELECT * FROM passed ORDER BY offset"):
        must_fit(crc, "passed", offset, chain, digest)
        yield Passed(offset, chain, digest)
