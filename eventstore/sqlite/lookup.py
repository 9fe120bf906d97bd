"""What a SQLite log already has, asked while a group is decided: on the writer's own connection."""

import sqlite3
from collections.abc import Sequence
from itertools import batched

from huahuo.eventstore.core.sums import must_fit
from huahuo.eventstore.model import CommandKey, CommandRecord, Head
from huahuo.eventstore.sqlite.absent import owners_must_be_absent
from huahuo.eventstore.sqlite.commands import select_commands
from huahuo.eventstore.sqlite.faults import translated
from huahuo.eventstore.sqlite.names import Names
from huahuo.eventstore.sqlite.reads import SqliteReads

_LOOKED_UP_AT_ONCE = 256


class SqliteLookup:
    """Implements `storage_port.Lookup`."""

    def __init__(self, connection: sqlite3.Connection, names: Names, reads: SqliteReads) -> None:
        self.connection = connection
        self._names = names
        self._reads = reads

    def find_commands(self, keys: Sequence[CommandKey], since_ms: int) -> dict[CommandKey, CommandRecord]:
        """See `Lookup`."""
        try:
            found = select_commands(self.connection, keys, since_ms)
        except sqlite3.Error as error:
            raise translated(error) from None
        if len(found) < len(keys):
            self._reads.corruption.must_not_hide("command")
        return found

    def wrapped_keys(self, owners: Sequence[str]) -> dict[str, bytes]:
        """See `Lookup`."""
        found: dict[str, bytes] = {}
        try:
            for some in batched(owners, _LOOKED_UP_AT_ONCE):
                asked = ", ".join("?" * len(some))
                sql = f"SELECT owner, wrapped, crc FROM data_key WHERE owner IN ({asked})"  # noqa: S608
                for owner, wrapped, crc in self.connection.execute(sql, some):
                    must_fit(crc, "data_key", owner, wrapped)
                    found[owner] = wrapped
            owners_must_be_absent(self.connection, [owner for owner in owners if owner not in found])
        except sqlite3.Error as error:
            raise translated(error) from None
        if len(found) < len(set(owners)):  # a new key in a hidden one's place would lose what that one sealed
            self._reads.corruption.must_not_hide("data_key")
        return found

    def has_row(self, table: str, part: str, key: bytes) -> bool:
        """See `Lookup`."""
        sql = "SELECT 1 FROM projection WHERE tbl = ? AND part = ? AND key = ?"
        try:
            return self.connection.execute(sql, (table, part, key)).fetchone() is not None
        except sqlite3.Error as error:
            raise translated(error) from None

    def ended_head(self, stream: str, upto: int) -> Head | None:
        """See `Lookup`."""
        return self._reads.ended_head(stream, upto)
