"""What only the SQLite engine promises: files, settings, seeks, checkpoints, and commits after a failure."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.errors import Closed, EventStoreError, Unavailable
from huahuo.eventstore.sqlite import store as sqlite_store
from huahuo.eventstore.sqlite import wal
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import append, event
from tests.support.worlds.sqlite_logs import opened, sql, verified

# Files


async def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EventStoreError, match="cannot be used: Not a directory"):
        await opened(tmp_path / "file" / "data")


async def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    sql(tmp_path, "CREATE TABLE theirs (x)")
    with pytest.raises(EventStoreError, match="not a log's"):
        await opened(tmp_path)
    assert sql(tmp_path, "SELECT name FROM sqlite_master") == [("theirs",)]


@pytest.mark.slow  # SQLite waits 5 s for the connection of the one that was overtaken
async def test_a_writer_that_was_overtaken_stops_for_good(tmp_path: Path) -> None:
    old = await opened(tmp_path)
    await old.append(append(event("a")))
    (tmp_path / LOCK).unlink()  # as an impatient operator might
    new = await opened(tmp_path)
    with pytest.raises(Unavailable, match="taken over"):
        await old.append(append(event("a")))
    await new.append(append(event("a"), expected={"a": 1}))
    with pytest.raises(Closed, match="taken over"):
        await old.append(append(event("a")))
    await old.close()
    await new.append(append(event("a"), expected={"a": 2}))
    assert await new.verify() == 3
    await new.close()


# Reading


# The write-ahead log


async def test_a_reader_that_stays_in_holds_up_nothing_but_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "WAL_BYTES_MAX", 1 << 20)
    log = await opened(tmp_path)
    await log.append(append(event("a")))
    with closing(sqlite3.connect(f"{(tmp_path / DATABASE).as_uri()}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM event").fetchone() == (1,)
        for _ in range(5):
            await log.append(append(*[event("a", b"x" * 1000)] * 500))
        assert reader.execute("SELECT count(*) FROM event").fetchone() == (1,)
        reader.execute("COMMIT")
    assert log.head("a").seq == 2501
    await log.append(append(event("a")))
    await log.close()
    assert (await verified(tmp_path)) == 2502


# After a failure


async def test_a_new_connection_is_not_trusted_before_its_write_ahead_log_was_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huahuo.eventstore.sqlite.connections.BUSY_TIMEOUT_MS", 10)
    log = await opened(tmp_path)
    await log.append(append(event("a")))
    store = log.store
    assert isinstance(store, sqlite_store.SqliteStore)
    with closing(sqlite3.connect(f"{(tmp_path / DATABASE).as_uri()}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        store.connection.close()
        for _ in range(2):
            with pytest.raises(Unavailable):
                await log.append(append(event("a")))
    await log.append(append(event("a"), expected={"a": 1}))
    await log.close()
