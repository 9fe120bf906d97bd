"""Rows that a damaged page hides: numbers are not given out again, and the probe tells of the rest."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.executor import ThreadExecutor
from huahuo.eventstore.model import Append, CommandKey, CommandRecord, NewEvent, RowPut
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.looking_over import LATER
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.rebuild import rebuild
from huahuo.eventstore.sqlite.schema import DATABASE, PAGE_BYTES
from tests.support.worlds.logs import MASTER_KEY


async def opened(directory: Path) -> SqliteLog:
    return await SqliteLog.open(directory, ambient=FakeAmbient(1), master_key=MASTER_KEY, build="b")


async def filled(directory: Path) -> None:
    log = await opened(directory)
    for n in range(3):
        log.take("mailbox")
        command = CommandRecord(CommandKey("user/1", "c", f"command-{n}"), b"f", b"{}")
        rows = (RowPut("table", "part", b"key-%d" % n, b"value"),)
        append = Append(ts_ms=0, events=(NewEvent(f"s{n}", "t", b"{}"),), rows=rows, command=command)
        await log.append(append)
    await log.close()


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


def change_key(directory: Path, name: str, key: bytes) -> None:
    """One bit of a key in an index: SQLite no longer finds its row."""
    start = page_of(directory, name)
    data = bytearray((directory / DATABASE).read_bytes())
    data[data.index(key, start, start + PAGE_BYTES) + len(key) - 1] ^= 4
    (directory / DATABASE).write_bytes(data)


@pytest.mark.parametrize("table", ["counter", "name", "stream", "meta"])
async def test_a_log_that_lost_a_number_or_a_name_is_not_opened(tmp_path: Path, table: str) -> None:
    await filled(tmp_path)
    hide_last_row(tmp_path, table)
    with pytest.raises(Corrupt):
        await opened(tmp_path)


@pytest.mark.parametrize(
    ("table", "key"), [("command", b"command-1"), ("projection", b"key-1")]
)  # fmt: skip
async def test_a_row_that_its_index_lost_is_told_by_the_probe(tmp_path: Path, table: str, key: bytes) -> None:
    await filled(tmp_path)
    change_key(tmp_path, f"sqlite_autoindex_{table}_1", key)
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    assert (await log.probe() or "").startswith(f"table {table} is damaged: row 2 missing from index")
    await look.stop()
    await log.close()


async def test_a_command_that_a_page_hides_does_not_run_twice_once_the_page_is_known(tmp_path: Path) -> None:
    await filled(tmp_path)
    hide_last_row(tmp_path, "sqlite_autoindex_command_1")
    log = await opened(tmp_path)
    assert await log.command(CommandKey("user/1", "c", "command-2")) is None, "a repeat would run twice"
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    assert (await log.probe() or "").startswith("table command is damaged")
    hidden = CommandRecord(CommandKey("user/1", "c", "command-2"), b"f", b"{}")
    with pytest.raises(Corrupt, match="may be hidden"):
        await log.append(Append(ts_ms=0, events=(NewEvent("s9", "t", b"{}"),), command=hidden))
    with pytest.raises(Corrupt, match="may be hidden"):
        await log.command(hidden.key)
    assert log.head("s9").seq == 0, "no command runs twice"
    assert await log.command(CommandKey("user/1", "c", "command-0")) is not None
    assert list(log.corruption.places) == ["table command"]
    await look.stop()
    await log.close()


async def test_the_doctor_says_that_a_page_of_an_index_can_be_made_again_and_that_mends_it(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    hide_last_row(tmp_path, "sqlite_autoindex_command_1")
    found = find_damage(tmp_path / DATABASE)
    assert found
    assert all(damage.can_rebuild for damage in found), found
    rebuild(tmp_path)
    assert find_damage(tmp_path / DATABASE) == []
    log = await opened(tmp_path)
    assert await log.command(CommandKey("user/1", "c", "command-2")) is not None
    await log.close()


async def test_nothing_is_told_of_a_whole_log_and_a_look_can_be_ended_at_once(tmp_path: Path) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    await look.stop()
    assert LATER
    assert await log.probe() is None
    await log.look_over(ThreadExecutor(1, "look")).stop()
    assert await log.probe() is None
    await log.close()
