"""The tables `meta` and `counter`, read so that damage does not keep a log closed.

Both have a few rows, each with its checksum. A row that fits was written as it is, so all such rows are kept.
`huahuo.eventstore.sqlite.remaking` decides what takes the place of the others.
"""

import contextlib
import re
import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from huahuo.eventstore.core.sums import row_crc
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.sqlite.salvage import FAULTS, from_both_ends, text_in, until_fault
from huahuo.eventstore.sqlite.table_faults import corrupt, faults_said

_ROWS: Final = {
    "meta": "SELECT rowid, key, value, crc FROM meta NOT INDEXED",
    "counter": "SELECT rowid, name, next, crc FROM counter NOT INDEXED",
}
_KEYS: Final = {
    "meta": "SELECT key FROM meta INDEXED BY sqlite_autoindex_meta_1 ORDER BY key",
    "counter": "SELECT name FROM counter INDEXED BY sqlite_autoindex_counter_1 ORDER BY name",
}


class Kept(msgspec.Struct, frozen=True):
    """What is left of one table."""

    rows: dict[str, bytes | int]
    """Those that fit their checksums, by key."""
    lost: frozenset[str] | None
    """The keys of the others. None: rows may be missing of which nothing is left."""
    damage: Corrupt | None
    """What is wrong with the table; None if nothing is."""
    torn: bool
    """Whether SQLite finds a page or an index of it damaged."""

    def may_have_had(self, key: str) -> bool:
        """Whether a row with this key may be lost."""
        return key not in self.rows and (self.lost is None or key in self.lost)


def read_small(connection: sqlite3.Connection, table: str) -> Kept:
    """Read `meta` or `counter`. Nothing is raised: of a table that cannot be read, no rows are left."""
    rows, hurt = _fitting(connection, table)
    said = faults_said(connection, f"PRAGMA integrity_check('{table}')")
    if not (said or hurt):
        return Kept(rows, frozenset(), None, torn=False)
    indexed, whole = until_fault(connection, _KEYS[table])
    keys = {str(text_in(key)) for (key,) in indexed}
    lost: frozenset[str] | None = None
    if whole and not rows.keys() - keys:
        lost = frozenset(keys - rows.keys())
    elif not _concerns(connection, table, said):
        lost = hurt
    damage = (
        corrupt(f"table {table}", said)
        if said
        else Corrupt(f"table {table}", f"not as written: its row {', '.join(sorted(lost or hurt))}")
    )
    return Kept(rows, lost, damage, torn=bool(said))


def sum_of_counters(counters: Mapping[str, bytes | int]) -> str:
    """A checksum of all counters. Each row of an old copy of their page fits its own, but not this one."""
    return f"{row_crc('counters', *(value for row in sorted(counters.items()) for value in row)):08x}"


def read_log_id(connection: sqlite3.Connection) -> str:
    """The log's id, "" if it is damaged or missing."""
    if connection.execute("SELECT 1 FROM pragma_table_info('meta') WHERE name = 'crc'").fetchone() is None:
        row = connection.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()
        return str(text_in(row[0])) if row else ""
    found = _fitting(connection, "meta")[0].get("log", b"")
    return found.decode(errors="replace") if isinstance(found, bytes) else ""


def is_replica(connection: sqlite3.Connection, meta: Kept) -> bool:
    """Whether the log is a node's replica, as far as that is still known."""
    if "shared" in meta.rows or (meta.lost is not None and "shared" in meta.lost):
        return True
    with contextlib.suppress(*FAULTS):
        return connection.execute("SELECT 1 FROM passed LIMIT 1").fetchone() is not None
    return False


def _fitting(connection: sqlite3.Connection, table: str) -> tuple[dict[str, bytes | int], frozenset[str]]:
    """The rows of `table` that fit, by key, and the keys of the others.

    Only a damaged index lets in a second row with one key. Then the one that was written later counts; of a
    counter the higher one.
    """
    rows: dict[str, bytes | int] = {}
    hurt: set[str] = set()
    kind = int if table == "counter" else bytes
    found = from_both_ends(connection, _ROWS[table], "rowid")
    for _place, written, value, crc in sorted(found, key=lambda row: int(row[0])):
        key = str(text_in(written))
        if not isinstance(value, kind) or crc != row_crc(table, key, value):
            hurt.add(key)
            continue
        known = rows.get(key)
        rows[key] = max(known, value) if isinstance(known, int) and isinstance(value, int) else value
    return rows, frozenset(hurt - rows.keys())


def _concerns(connection: sqlite3.Connection, table: str, said: list[str]) -> bool:
    """Whether a fault is in the table itself, and not only in its index. It has a single page."""
    sql = "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name = ?"
    [root] = connection.execute(sql, (table,)).fetchone()
    named = [re.findall(r"\bpage (\d+)", line) for line in said]
    return any(
        str(root) in pages or (not pages and "index" not in line)
        for pages, line in zip(named, said, strict=True)
    )
