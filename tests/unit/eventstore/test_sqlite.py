"""What only the SQLite engine promises: files, settings, checkpoints, and checks when a log is opened."""

import asyncio
import errno
import itertools
import json
import os
import random
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.errors import Closed, Corrupt, Damaged, EventStoreError, InUse, Unavailable
from huahuo.eventstore.model import Append, NewEvent, RowPut, Secret, SecretPut
from huahuo.eventstore.sqlite import store as sqlite_store
from huahuo.eventstore.sqlite import wal_care
from huahuo.eventstore.sqlite.directory_lock import LOCK, DirectoryLock, Left
from huahuo.eventstore.sqlite.events import EVENTS_BY_POSITION, EVENTS_BY_SEQ
from huahuo.eventstore.sqlite.mark import MARK
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE, connect_reader
from tests.support.worlds.logs import MASTER_KEY, append, event


async def opened(directory: Path, *, restored: bool = False, seed: int = 1) -> SqliteLog:
    return await SqliteLog.open(
        directory, ambient=FakeAmbient(seed), master_key=MASTER_KEY, build="b", restored=restored
    )


async def filled(directory: Path, count: int = 10) -> None:
    log = await opened(directory)
    await log.append(append(*(event("a", b"body-%06d" % n) for n in range(count))))
    await log.close()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def sql(directory: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


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


async def test_after_a_clean_close_the_database_is_one_file_with_two_notes(tmp_path: Path) -> None:
    await filled(tmp_path)
    assert contents(tmp_path).keys() == {DATABASE, LOCK, MARK}


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


async def test_reading_is_a_seek_in_an_index(tmp_path: Path) -> None:
    await filled(tmp_path)
    by_seq = sql(tmp_path, "EXPLAIN QUERY PLAN " + EVENTS_BY_SEQ, 1, 0, 5, 5)
    by_position = sql(tmp_path, "EXPLAIN QUERY PLAN " + EVENTS_BY_POSITION, 0, 5, 5)
    assert [row[3] for row in by_seq] == [
        "SEARCH found USING PRIMARY KEY (stream=? AND seq>? AND seq<?)",
        "SEARCH event USING INTEGER PRIMARY KEY (rowid=?)",
    ]
    assert [row[3] for row in by_position] == ["SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]


async def test_rows_and_keyframes_are_seeks_too(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, rows=(RowPut("t", "p", b"k", b"v"),)))
    await log.close()
    for query in (
        "SELECT key, value FROM projection WHERE tbl = 't' AND part = 'p' AND key < x'ff' ORDER BY key DESC",
        "SELECT state FROM keyframe WHERE stream = 's' AND fold = 'f' AND fingerprint = 'v' AND seq <= 9",
        "SELECT reply FROM command WHERE user = 'u' AND client = 'c' AND id = 'i'",
        "SELECT max(seq) FROM seq_index WHERE stream = 1",
    ):
        plan = [str(row[3]) for row in sql(tmp_path, "EXPLAIN QUERY PLAN " + query)]
        assert len(plan) == 1, plan
        assert plan[0].startswith("SEARCH"), plan


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
        assert steps(head - 3) <= steps(0) < 200


async def test_a_log_with_many_streams_knows_all_heads_when_it_opens(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    await log.append(append(*(event(f"mailbox/{n}") for n in range(20_000)), event("mailbox/7")))
    await log.close()
    log = await opened(tmp_path)
    assert len(log.streams("mailbox/")) == 20_000
    assert log.head("mailbox/7").seq == 2
    await log.close()


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
    monkeypatch.setattr(wal_care, "WAL_BYTES_MAX", 1 << 20)
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


async def verified(directory: Path) -> int:
    log = await opened(directory)
    count = await log.verify()
    await log.close()
    return count


# Damage


async def test_a_changed_byte_in_the_newest_events_is_named_at_open_and_the_other_streams_go_on(
    tmp_path: Path,
) -> None:
    await filled(tmp_path, 10)
    sql(tmp_path, "UPDATE event SET body = ? WHERE position = 7", b"body-00000X")
    log = await opened(tmp_path)
    try:
        said = await log.probe()
        assert said is not None
        assert "stream a is damaged at position 7" in said
        with pytest.raises(Corrupt):
            await log.read("a", 0, events_max=100, bytes_max=1 << 20)
        await log.append(append(event("b", b"new")))
        assert [e.body for e in await log.read("b", 0, events_max=9, bytes_max=1 << 20)] == [b"new"]
    finally:
        await log.close()


async def test_a_changed_byte_in_old_events_is_found_by_verify(tmp_path: Path) -> None:
    await filled(tmp_path, 3000)
    raw = bytearray((tmp_path / DATABASE).read_bytes())
    at = raw.index(b"body-000041")
    raw[at] ^= 1
    (tmp_path / DATABASE).write_bytes(raw)
    log = await opened(tmp_path)
    with pytest.raises(Damaged) as caught:
        await log.verify()
    assert caught.value.position == 42
    assert await log.verify(100) == 2900
    await log.close()


async def test_a_removed_event_is_found(tmp_path: Path) -> None:
    await filled(tmp_path, 10)
    sql(tmp_path, "DELETE FROM event WHERE position = 7")
    log = await opened(tmp_path)
    assert "damaged at position 7" in (await log.probe() or "")
    with pytest.raises(Corrupt, match="position 7"):
        await log.verify()
    await log.close()


async def test_a_lost_tail_is_found_after_a_clean_close(tmp_path: Path) -> None:
    await filled(tmp_path, 10)
    sql(tmp_path, "DELETE FROM event WHERE position > 8")
    with pytest.raises(Damaged, match="ends at 8"):
        await opened(tmp_path)


async def test_a_restored_older_log_opens_only_when_said_so_and_has_a_new_id(tmp_path: Path) -> None:
    await filled(tmp_path)
    backup = (tmp_path / DATABASE).read_bytes()
    log = await opened(tmp_path)
    log_id = log.log_id
    await log.append(append(event("a")))
    await log.close()
    (tmp_path / DATABASE).write_bytes(backup)
    with pytest.raises(Damaged):
        await opened(tmp_path)
    log = await opened(tmp_path, restored=True, seed=2)
    assert (log.position, log.log_id == log_id) == (10, False)
    await log.close()
    assert await verified(tmp_path) == 10


async def test_a_damaged_page_is_found_at_the_opening_after_an_unclean_stop(tmp_path: Path) -> None:
    await filled(tmp_path, 3000)
    (tmp_path / LOCK).write_text('{"pid":1}')
    raw = bytearray((tmp_path / DATABASE).read_bytes())
    page = raw.index(b"body-000041") // 8192
    raw[page * 8192 : page * 8192 + 8] = bytes(8)
    (tmp_path / DATABASE).write_bytes(raw)
    log = await opened(tmp_path)
    assert "the table of events" in log.corruption.places
    assert await log.verify() == 3000
    await log.close()


@pytest.mark.parametrize(
    ("note", "looked_at"),
    [
        ({}, False),
        ({"boot": ""}, True),
        ({"boot": "another-run-of-the-machine"}, True),
        ({"inode": 1}, True),
        ({"pid": 0}, False),
    ],
)
def test_pages_are_looked_at_after_the_machine_stopped_and_not_only_the_process(
    tmp_path: Path, note: dict[str, object], looked_at: bool
) -> None:
    lock = DirectoryLock(tmp_path)
    lock.hold()
    lock.leave(None)  # as a killed process leaves it
    held = json.loads((tmp_path / LOCK).read_bytes())
    assert held["boot"], "this machine tells its runs apart"
    (tmp_path / LOCK).write_text(json.dumps(held | note))
    after = DirectoryLock(tmp_path)
    assert after.lost_power is looked_at
    after.leave(None)


def test_after_a_fault_of_the_disk_pages_are_looked_at_also_after_a_killed_process(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    lock.hold()
    lock.distrust()
    lock.leave(None)
    after = DirectoryLock(tmp_path)
    assert (after.lost_power, after.left.pid) == (True, os.getpid())
    after.leave(Left())
    clean = DirectoryLock(tmp_path)
    assert not clean.lost_power
    clean.leave(None)


async def test_a_commit_that_failed_leaves_a_note_for_the_next_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    log = await opened(tmp_path)
    assert json.loads((tmp_path / LOCK).read_bytes())["boot"]
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_store, "insert_events", broken)
        with pytest.raises(Unavailable):
            await log.append(Append(ts_ms=0, events=(event("a"),)))
    assert not json.loads((tmp_path / LOCK).read_bytes())["boot"]
    await log.append(Append(ts_ms=0, events=(event("a"),)))
    await log.close()
    assert json.loads((tmp_path / LOCK).read_bytes())["pid"] == 0


def test_a_note_that_is_not_written_whole_is_not_taken_for_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = DirectoryLock(tmp_path)
    lock.hold()

    def full(_file: int, _data: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        lock.leave(Left(log="x", position=7))
    after = DirectoryLock(tmp_path)
    assert after.left.pid == os.getpid(), "an unclean stop, as before"
    after.leave(None)


async def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"not a database, whatever its name says" * 500)
    with pytest.raises(Damaged):
        await opened(tmp_path)


async def test_a_blob_that_changed_is_not_given_out(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, blobs=(b"one", b"two")))
    await log.close()
    one, two = sql(tmp_path, "SELECT id, packed FROM blob ORDER BY id")
    sql(tmp_path, "UPDATE blob SET packed = ? WHERE id = ?", one[1], two[0])
    log = await opened(tmp_path)
    with pytest.raises(Damaged, match="blob"):
        await log.blob(str(two[0]))
    await log.close()


# Secrets in the files


def wrapped_keys(directory: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(f"{(directory / DATABASE).as_uri()}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT owner, wrapped FROM data_key"))


async def test_no_file_holds_a_secret_or_a_data_key_in_the_clear(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    secret = SecretPut("mailbox/1", "password", Secret("canary-7f3a9c"))
    await log.append(Append(ts_ms=0, events=(event("a"),), secrets=(secret,)))
    box, key = _data_key(wrapped_keys(tmp_path)["mailbox/1"])
    running = contents(tmp_path)
    await log.close()
    for name, data in itertools.chain(running.items(), contents(tmp_path).items()):
        assert b"canary" not in data, name
        assert key not in data, name
        assert MASTER_KEY not in data, name
    assert any(box in data for data in running.values()), "the scan sees what is there"


def _data_key(wrapped: bytes) -> tuple[bytes, bytes]:
    vault = Vault(MASTER_KEY, FakeAmbient(1))
    return wrapped, vault.data_key(wrapped, "mailbox/1")


async def test_when_a_shred_is_acknowledged_no_file_holds_the_key_any_more(tmp_path: Path) -> None:
    """Many owners, so that pages split, merge and move cells before and while keys are erased."""
    rng = random.Random(5)
    log = await opened(tmp_path)
    owners = [f"mailbox/{n}" for n in range(1500)]
    rng.shuffle(owners)
    for some in itertools.batched(owners, 100):
        secrets = tuple(SecretPut(owner, "password", Secret(f"pw {owner}")) for owner in some)
        await log.append(Append(ts_ms=0, secrets=secrets))
    keys = wrapped_keys(tmp_path)
    assert all(any(key in data for data in contents(tmp_path).values()) for key in keys.values())
    rng.shuffle(owners)
    gone: list[str] = []
    for some in itertools.batched(owners[:1200], 150):
        await log.append(Append(ts_ms=0, shred=tuple(some)))
        gone += some
        files = contents(tmp_path)
        left = [owner for owner in gone if any(keys[owner] in data for data in files.values())]
        assert left == []
    kept = owners[1200:]
    assert await log.secret(kept[0], "password") == Secret(f"pw {kept[0]}")
    await log.close()


async def test_a_key_that_a_reader_kept_from_being_erased_is_erased_soon_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huahuo.eventstore.core.commit_loop.CARE_RETRY_S", 0.01)
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, secrets=(SecretPut("o", "p", Secret("s")),)))
    key = wrapped_keys(tmp_path)["o"]
    with closing(sqlite3.connect(f"{(tmp_path / DATABASE).as_uri()}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        await log.append(Append(ts_ms=0, shred=("o",)))
        assert any(key in data for data in contents(tmp_path).values()), "the reader hinders"
        reader.execute("COMMIT")
    for _ in range(500):
        if not any(key in data for data in contents(tmp_path).values()):
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("the key is still in a file")
    await log.close()


# After a failure


async def test_a_connection_that_broke_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    await log.append(append(event("a")))
    store = log.store
    assert isinstance(store, sqlite_store.SqliteStore)
    store.connection.close()
    with pytest.raises(Unavailable):
        await log.append(append(event("a")))
    await log.append(append(event("a"), expected={"a": 1}))
    assert await log.verify() == 2
    await log.close()


async def test_a_new_connection_is_not_trusted_before_its_write_ahead_log_was_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huahuo.eventstore.sqlite.schema.BUSY_TIMEOUT_MS", 10)
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
