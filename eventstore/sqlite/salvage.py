"""Reading rows of a file that is damaged: as many as can be read, with an error for none."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from huahuo.eventstore.errors import MISREAD

FAULTS = (sqlite3.Error, *MISREAD)
"""What reading a damaged file raises."""


def from_both_ends(connection: sqlite3.Connection, sql: str, key: str) -> Iterator[tuple[Any, ...]]:
    """All rows that can be read: up to a damaged page from one end, and from the other end."""
    for order in ("ASC", "DESC"):
        rows, ended = until_fault(connection, f"{sql} ORDER BY {key} {order}")
        yield from rows
        if ended:
            return


def until_fault(
    connection: sqlite3.Connection, sql: str, parameters: Sequence[int] = ()
) -> tuple[list[tuple[Any, ...]], bool]:
    """The rows up to the first one that cannot be read, and whether there was none such.

    A text comes as bytes: it may be none any more.
    """
    before, connection.text_factory = connection.text_factory, bytes
    rows: list[tuple[Any, ...]] = []
    try:
        with contextlib.suppress(*FAULTS):
            for row in connection.execute(sql, parameters):
                rows.append(row)  # noqa: PERF402  what came before a fault is kept
            return rows, True
    finally:
        connection.text_factory = before
    return rows, False


def text_in(value: object) -> object:
    """A text that came as bytes; any other value as it is."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
