"""Another program's SQLite file, read and never written: rows of its tables, a page at a time."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

from huahuo.eventstore.errors import EventStoreError

_PAGE_ROWS: Final = 200


class NotReadable(EventStoreError):  # noqa: N818  a fact about a file
    """The file is not there, or is no such database."""


class ForeignDatabase:
    """See the module. A missing column reads as None: older versions of a schema have fewer."""

    def __init__(self, file: Path) -> None:
        """Raises NotReadable."""
        self._file = file
        if not file.is_file():
            raise NotReadable(f"there is no file {file}")
        # Not `immutable`: the program that owns the file may be running.
        self._connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        self._connection.row_factory = sqlite3.Row
        try:
            self._asked("SELECT count(*) FROM sqlite_master")
        except NotReadable:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def count(self, table: str) -> int | None:
        """How many rows a table has; None if there is no such table."""
        if not self._columns(table):
            return None
        return int(self._asked(f'SELECT count(*) FROM "{table}"')[0][0])  # noqa: S608  a name in our code

    def rows(self, table: str, columns: Sequence[str], *, key: str = "id") -> Iterator[dict[str, Any]]:
        """The rows in the order of `key`, an integer column. Raises NotReadable."""
        there = self._columns(table)
        named = ", ".join(f'"{name}"' if name in there else f"NULL AS {name}" for name in columns)
        query = f'SELECT {named}, "{key}" AS _at FROM "{table}" WHERE "{key}" > ? ORDER BY "{key}" LIMIT ?'  # noqa: S608
        at = -1
        while there:
            rows = self._asked(query, at, _PAGE_ROWS)
            for row in rows:
                yield {name: row[name] for name in columns}
            if len(rows) < _PAGE_ROWS:
                return
            at = rows[-1]["_at"]

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._asked(f'PRAGMA table_info("{table}")')}

    def _asked(self, query: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise NotReadable(f"{self._file} cannot be read: {error}") from error
