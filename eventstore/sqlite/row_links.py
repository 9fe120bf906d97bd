"""Rows of events as SQLite has them, their links of the hash chain, and what is mended in them."""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from huahuo.eventstore.core.chain import GENESIS, link
from huahuo.eventstore.errors import MISREAD
from huahuo.eventstore.sqlite.naming import Naming

COLUMNS: Final = (
    "position, stream, seq, type, body, version, ts, entity, principal, command_id, cause, build, chain"
)
TOMBSTONE_COLUMNS: Final = 4
"""Position, stream, seq, link."""
ENTITY: Final = 7
"""The place of that column in a row."""
_EVENT: Final = f"SELECT {COLUMNS} FROM event WHERE position = ?"  # noqa: S608  constant

type Row = tuple[Any, ...]


class Mend(NamedTuple):
    """In the row of `table` at `position`, `column` must be `value`."""

    table: str
    position: int
    column: str
    value: int | bytes

    @property
    def positions(self) -> Iterator[int]:
        """Those at which an event did not fit, or was missing, because of this."""
        for position in (self.position, self.value):
            if isinstance(position, int):
                yield from (position, position + 1)
        if self.column == "position" and self.position < 1:
            yield 1


class RowLinks:
    """The links of rows, with the names that stand behind their numbers."""

    def __init__(self, connection: sqlite3.Connection, naming: Naming) -> None:
        self._connection = connection
        self.names: Mapping[int, str] = naming.streams
        self._texts = naming.texts

    def event(self, position: int) -> Row | None:
        """The row of the event at `position`."""
        row: Row | None = self._connection.execute(_EVENT, (position,)).fetchone()
        return row

    def at(self, position: int) -> bytes | None:
        """The link that stands at `position`, of an event or of a tombstone."""
        if not position:
            return GENESIS
        for table in ("event", "pruned"):
            sql = f"SELECT chain FROM {table} WHERE position = ?"  # noqa: S608  two constants
            row = self._connection.execute(sql, (position,)).fetchone()
            if row is not None:
                return row[0] if isinstance(row[0], bytes) else None
        return None

    def of(
        self, before: bytes, row: Row, *, position: int = 0, stream: int | None = None, seq: int | None = None
    ) -> bytes:
        """The link of `row` behind `before`, with another place if one is passed; b"": it can have none."""
        try:
            name = self.names[row[1] if stream is None else stream]
            facts = (
                position or row[0], name, row[2] if seq is None else seq,
                self._texts[row[3]], *row[4:11], self._texts[row[11]],
            )  # fmt: skip
            return link(before, facts)
        except (KeyError, *MISREAD):
            return b""

    def leads(self, linked: bytes, following: Row | None) -> bool:
        """Whether `linked` is the link before the event `following`."""
        return bool(
            linked
            and following is not None
            and len(following) > TOMBSTONE_COLUMNS
            and self.of(linked, following) == following[-1]
        )
