"""Which rows of a table changed after a position: what readers who follow the table need to catch up.

A table is tracked from the append on that puts its row into the table `HORIZONS`. From then on each change
of one of its rows is noted in the same commit: as a row of the table `CHANGES + table`, in the same part,
whose key is the position of the append and then the key of the row. Such notes are rows like any other, so
each engine, copy and node has them without more code. The value in `HORIZONS` is the position up to which
changes are not all known: a reader who stood before it reads everything anew. It is moved by whoever drops
notes, and by an append that drops a whole part.
"""

from typing import Final

from huahuo.eventstore.model import RowPut

HORIZONS: Final = "horizons"
CHANGES: Final = "changes:"
_POSITION_BYTES: Final = 8


def track(table: str) -> RowPut:
    """Track the changes of a table from this append on, or read everything anew from there on."""
    return RowPut(HORIZONS, "", table.encode(), b"")


def horizon(table: str, position: int) -> RowPut:
    """Changes up to `position` are not all known any more."""
    return RowPut(HORIZONS, "", table.encode(), str(position).encode())


def note(table: str, part: str, position: int, key: bytes) -> RowPut:
    """The row `key` was changed by the append that ends at `position`."""
    return RowPut(CHANGES + table, part, position.to_bytes(_POSITION_BYTES) + key, b"")


def after(position: int) -> bytes:
    """All notes of changes behind `position` have this key or a greater one."""
    return (position + 1).to_bytes(_POSITION_BYTES)


def noted(key: bytes) -> tuple[int, bytes]:
    """The position and the row's key, from the key of a note."""
    return int.from_bytes(key[:_POSITION_BYTES]), key[_POSITION_BYTES:]
