"""Checksums against accidental damage of the disk. Pure.

The hash chain proves an event, but costs a hash for each and needs the event before it. For pages of
joined bodies each stream has a running CRC-32, kept with the position of each event in `seq_index`:

    crc[0] = CRC-32 of the stream's name
    crc[n] = CRC-32 of `,` and the body of event n, going on from crc[n-1]

so the bodies of events a+1 to b, joined by commas, are proven by two numbers: they lead from crc[a] to
crc[b]. A pruned event keeps its checksum in its tombstone, so the remaining events need not be summed again.

Rows outside the chain carry a CRC-32 over their table's name, their key and their value, so a value that
was moved to another row does not fit. The chain guards against forgers; checksums guard against bit rot.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any
from zlib import crc32

import msgspec

from huahuo.eventstore.errors import Corrupt

_encode = msgspec.msgpack.Encoder().encode

type Value = str | bytes | int | None


def crc_of_name(stream: str) -> int:
    """The running checksum before the first event of `stream`."""
    return crc32(stream.encode())


def crc_after(before: int, bodies: bytes) -> int:
    """The running checksum after a body, or after several that are joined by commas."""
    return crc32(bodies, crc32(b",", before))


def unlike(crc: int) -> int:
    """A number other than `crc`, for an event that was damaged already when it was summed."""
    return crc ^ 1


def row_crc(table: str, *values: Value) -> int:
    """The checksum of a row: its key, then its value."""
    return crc32(_encode((table, *values)))


def must_fit(crc: int | None, table: str, *values: Value) -> None:
    """Compare a row with its checksum. With `crc` None (a format without checksums) nothing is compared.

    Raises:
        Corrupt: it is not what was written.
    """
    if crc is not None and row_crc(table, *values) != crc:
        raise Corrupt(f"{_CALLED.get(table, table)} {_key(values)}", "it does not fit its checksum")


def must_all_fit(table: str, columns: Sequence[Sequence[Value]], crcs: Sequence[int]) -> None:
    """As `must_fit` for many rows, given as their columns: no step of the interpreter for each row.

    Raises:
        Corrupt: for the first that is not what was written.
    """
    if [*map(crc32, map(_encode, zip(repeat(table), *columns)))] != [*crcs]:
        for crc, *values in zip(crcs, *columns, strict=True):
            must_fit(crc, table, *values)


def fitting(table: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows of `table` without their last column, which is their checksum. Few calls for each row.

    Raises:
        Corrupt: as `must_fit`.
    """
    for row in rows:
        values = row[:-1]
        if row[-1] != crc32(_encode((table, *values))):
            must_fit(row[-1], table, *values)
        yield values


_CALLED = {
    "command": "command record", "projection": "projection row", "data_key": "data key",
    "stream": "name of stream number", "name": "name of a type or build, number",
    "usage": "bytes that are counted for",
}  # fmt: skip
_KEY_COLUMNS_MAX = 3


def _key(values: Sequence[Value]) -> str:
    """The key of a row without its value; bytes in hexadecimal."""
    key = values[:-1][:_KEY_COLUMNS_MAX]
    return " ".join(part.hex() if isinstance(part, bytes) else str(part) for part in key)


def register(connection: sqlite3.Connection) -> None:
    """Make `row_crc` known to the statements of `connection`."""
    connection.create_function("row_crc", -1, row_crc, deterministic=True)
