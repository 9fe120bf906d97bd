"""A small log, and damage of single bits in its file."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from huahuo.eventstore.model import Append, CommandKey, CommandRecord, NewEvent, RowPut
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.schema import DATABASE, PAGE_BYTES
from tests.support.worlds.sqlite_logs import opened


async def filled(directory: Path) -> None:
    log = await opened(directory)
    for n in range(3):
        log.take("mailbox")
        command = CommandRecord(CommandKey("user/1", "c", f"command-{n}"), b"f", b"{}")
        rows = (RowPut("table", "part", b"key-%d" % n, b"value"),)
        append = Append(ts_ms=0, events=(NewEvent(f"s{n}", "t", b"{}"),), rows=rows, command=command)
        await log.append(append)
    await log.close()


def as_killed(directory: Path, copy: Path) -> None:
    """Copy the directory of a log that is open, so that it looks as if its process had been killed here.

    The frames of its write-ahead log are in the database, as after a checkpoint.
    """
    shutil.copytree(directory, copy)
    lock = copy / LOCK
    left = json.loads(lock.read_bytes()) | {"inode": lock.stat().st_ino}
    lock.write_bytes(json.dumps(left).encode())
    with closing(sqlite3.connect(copy / DATABASE)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def page_of(directory: Path, name: str) -> int:
    """Where the only page of a table or an index begins."""
    with closing(sqlite3.connect(directory / DATABASE)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        return int((connection.execute(sql, (name,)).fetchone()[0] - 1) * PAGE_BYTES)


def hide_last_row(directory: Path, name: str) -> None:
    """One byte of the page: how many rows it says that it has."""
    at = page_of(directory, name) + 4
    data = bytearray((directory / DATABASE).read_bytes())
    data[at] -= 1
    (directory / DATABASE).write_bytes(data)


def flip(directory: Path, at: int) -> None:
    """One bit of the file."""
    data = bytearray((directory / DATABASE).read_bytes())
    data[at] ^= 4
    (directory / DATABASE).write_bytes(data)


def change_key(directory: Path, name: str, key: bytes, bit: int = 4) -> None:
    """One bit of a key in an index: SQLite no longer finds its row."""
    start = page_of(directory, name)
    data = bytearray((directory / DATABASE).read_bytes())
    data[data.index(key, start, start + PAGE_BYTES) + len(key) - 1] ^= bit
    (directory / DATABASE).write_bytes(data)


def spoil(directory: Path, page: str) -> None:
    """The head of the first page of a table or of an index."""
    at = page_of(directory, page)
    data = bytearray((directory / DATABASE).read_bytes())
    data[at : at + 64] = b"\xff" * 64
    (directory / DATABASE).write_bytes(data)
