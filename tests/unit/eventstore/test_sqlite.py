"""What only the SQLite engine promises: files, settings, seeks, checkpoints, and commits after a failure."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.errors import Closed, EventStoreError, InUse, Unavailable
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite import store as sqlite_store
from huahuo.eventstore.sqlite import wal
from huahuo.eventstore.sqlite.connections import connect_reader
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.events import EVENTS_BY_SEQ
from huahuo.eventstore.sqlite.mark import MARK
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import append, event
from tests.support.worlds.sqlite_logs import filled, opened, sql, verified

# Files


async def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "data"
    old = os.umask(0o000)
    try:
        log = await opened(directory)
        await log.append(append(event("a")))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        assert set(modes) == {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", LOCK, MARK}
        assert set(modes.values()) == {0o600}
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        await log.close()
    finally:
        os.umask(old)


async def test_the_settings_that_durability_rests_on_hold(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    store = log.store
    assert isinstance(store, sqlite_store.SqliteStore)
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,
        "page_size": 8192,
        "wal_autocheckpoint": 256,
        "secure_delete": 1,
        "mmap_size": 0,
        "trusted_schema": 0,
        "cell_size_check": 1,
    }
    found = {name: store.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}
    assert found == wanted
    await log.close()


async def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EventStoreError, match="cannot be used: Not a directory"):
        await opened(tmp_path / "file" / "data")


async def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    sql(tmp_path, "CREATE TABLE theirs (x)")
    with pytest.raises(EventStoreError, match="not a log's"):
        await opened(tmp_path)
    assert sql(tmp_path, "SELECT name FROM sqlite_master") == [("theirs",)]


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path)
    sql(tmp_path, "PRAGMA user_version=99")
    with pytest.raises(EventStoreError, match="format 99"):
        await opened(tmp_path)


async def test_a_refused_second_opening_names_the_directory_and_the_holder(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    with pytest.raises(InUse) as caught:
        await opened(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert f"process {os.getpid()}, which is this one" in str(caught.value)
    assert "in another container" in str(caught.value), "each has a process 1"
    await log.append(append(event("a")))
    await log.close()


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


async def test_the_end_of_a_long_stream_is_as_near_as_the_start(tmp_path: Path) -> None:
    """Measured on 200,000 events in steps that SQLite counts itself, so that no clock is needed."""
    log = await opened(tmp_path)
    many = tuple(NewEvent("user/1", "t", b"%d" % n) for n in range(50_000))
    for _ in range(4):
        await log.append(Append(ts_ms=0, events=many))
    head = log.head("user/1").seq
    assert head == 200_000
    assert [e.seq for e in await log.read("user/1", head - 3, events_max=10)] == [head - 2, head - 1, head]
    await log.close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        ticks: list[int] = []
        connection.set_progress_handler(lambda: ticks.append(1), 1)

        def steps(after: int) -> int:
            ticks.clear()
            assert len(connection.execute(EVENTS_BY_SEQ, (1, after, after + 3, 10)).fetchall()) == 3
            return len(ticks)

        steps(0)  # reads the schema
        assert steps(head - 3) <= steps(1) < 200  # the first event has none before it


async def test_a_reader_can_neither_write_nor_checkpoint(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    await log.append(append(event("a")))
    await log.read("a", 0, events_max=1)
    connection = connect_reader(tmp_path / DATABASE)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM event")
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    await log.close()


# The write-ahead log


async def test_the_write_ahead_log_stays_bounded(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    wal = tmp_path / f"{DATABASE}-wal"
    sizes: list[int] = []
    for _ in range(60):
        await log.append(append(*[event("a", b"x" * 1000)] * 500))
        sizes.append(wal.stat().st_size)
    assert sum(sizes) > 60 << 20, "more was written than the file may hold"
    assert max(sizes) < 4 << 20
    assert (tmp_path / DATABASE).stat().st_size > 20 << 20
    await log.close()


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
