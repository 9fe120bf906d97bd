"""Damage of the small tables does not keep a log closed, and no number is given out twice after it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Corrupt, WrongKey
from huahuo.eventstore.model import Append, NewEvent, RowPut, Secret, SecretPut
from huahuo.eventstore.sequencer.memory import MemoryOrder, MemorySequencer
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.mark import MARK, read_marks
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.rebuild import rebuild
from huahuo.eventstore.sqlite.remaking import LOSS_STRIDE
from huahuo.eventstore.sqlite.replica import open_log
from huahuo.eventstore.sqlite.schema import DATABASE, PAGE_BYTES
from tests.support.worlds.logs import MASTER_KEY, append, event
from tests.support.worlds.spoilt import (
    as_killed,
    change_in,
    change_key,
    filled,
    hide_last_row,
    opened,
    page_of,
    spoil,
)

ONE = Append(ts_ms=0, events=(NewEvent("s1", "t", b"{}"),))


def changed(directory: Path, sql: str) -> None:
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        assert connection.execute(sql).rowcount


def page(directory: Path, name: str) -> bytes:
    at = page_of(directory, name)
    return (directory / DATABASE).read_bytes()[at : at + PAGE_BYTES]


def put_page(directory: Path, name: str, content: bytes) -> None:
    at = page_of(directory, name)
    with (directory / DATABASE).open("r+b") as file:
        file.seek(at)
        file.write(content)


async def opened_and_told(directory: Path) -> tuple[SqliteLog, str]:
    log = await opened(directory)
    return log, await log.probe() or ""


async def test_a_counter_whose_row_is_damaged_goes_on_behind_all_numbers_that_were_given_out(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    changed(tmp_path, "UPDATE counter SET next = 2")
    log, told = await opened_and_told(tmp_path)
    assert "table counter is damaged" in told
    assert f"numbers go on from {1 + LOSS_STRIDE}" in told
    assert log.take("mailbox") == 1 + LOSS_STRIDE
    await log.append(ONE)
    await log.close()
    log = await opened(tmp_path)
    assert await log.probe() is None
    assert (log.take("mailbox"), log.take("another")) == (2 + LOSS_STRIDE, 1 + LOSS_STRIDE)
    await log.close()


async def test_each_damage_of_the_counters_moves_them_on_anew(tmp_path: Path) -> None:
    await filled(tmp_path)
    for times in (1, 2, 3):
        changed(tmp_path, "UPDATE counter SET crc = crc + 1")
        log = await opened(tmp_path)
        assert log.take("mailbox") == 1 + times * LOSS_STRIDE
        await log.append(ONE)
        await log.close()


async def test_of_the_counters_only_what_is_damaged_moves_on(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    log.take("mailbox", 7)
    log.take("mail", 3)
    await log.append(ONE)
    await log.close()
    changed(tmp_path, "UPDATE counter SET next = 2 WHERE name = 'mailbox'")
    log = await opened(tmp_path)
    assert (log.take("mailbox"), log.take("mail")) == (1 + LOSS_STRIDE, 4)
    await log.close()


@pytest.mark.parametrize("harm", [hide_last_row, spoil])
async def test_counters_of_which_nothing_is_left_are_not_begun_again(tmp_path: Path, harm: object) -> None:
    await filled(tmp_path)
    assert callable(harm)
    harm(tmp_path, "counter")
    log, told = await opened_and_told(tmp_path)
    assert "table counter is damaged" in told
    assert log.take("mailbox") > 3
    await log.append(ONE)
    await log.close()
    assert find_damage(tmp_path / DATABASE) == []


async def test_an_older_page_of_the_counters_is_noticed_by_the_note_of_the_close(tmp_path: Path) -> None:
    await filled(tmp_path)
    old = page(tmp_path, "counter")
    log = await opened(tmp_path)
    assert log.take("mailbox") == 4
    await log.append(ONE)
    await log.close()
    put_page(tmp_path, "counter", old)
    log, told = await opened_and_told(tmp_path)
    assert "table counter is damaged" in told
    assert log.take("mailbox") > 4
    await log.close()


async def test_an_older_page_of_the_counters_is_noticed_after_a_kill(tmp_path: Path) -> None:
    await filled(tmp_path / "log")
    old = page(tmp_path / "log", "counter")
    log = await opened(tmp_path / "log")
    log.take("mailbox")
    await log.append(ONE)
    as_killed(tmp_path / "log", tmp_path / "killed")
    await log.close()
    put_page(tmp_path / "killed", "counter", old)
    log, told = await opened_and_told(tmp_path / "killed")
    assert "table counter is damaged: it is older than the log's end" in told
    assert log.take("mailbox") == 1 + LOSS_STRIDE
    await log.close()


async def test_numbers_that_were_given_out_in_a_commit_without_events_are_noticed_too(tmp_path: Path) -> None:
    await filled(tmp_path / "log")
    old = page(tmp_path / "log", "counter")
    log = await opened(tmp_path / "log")
    log.take("mailbox")
    await log.append(Append(ts_ms=0, rows=(RowPut("table", "part", b"key", b"value"),)))
    as_killed(tmp_path / "log", tmp_path / "killed")
    await log.close()
    put_page(tmp_path / "killed", "counter", old)
    log, told = await opened_and_told(tmp_path / "killed")
    assert "table counter is damaged" in told
    await log.close()


async def test_a_kill_between_a_commit_and_its_mark_is_no_damage_of_the_counters(tmp_path: Path) -> None:
    await filled(tmp_path / "log")
    log = await opened(tmp_path / "log")
    before = (tmp_path / "log" / MARK).read_bytes()
    log.take("mailbox")
    await log.append(ONE)
    as_killed(tmp_path / "log", tmp_path / "killed")
    await log.close()
    (tmp_path / "killed" / MARK).write_bytes(before)
    log, told = await opened_and_told(tmp_path / "killed")
    assert (told, log.take("mailbox")) == ("", 5)
    await log.close()


async def test_a_mark_of_a_version_that_noted_no_counters_is_read(tmp_path: Path) -> None:
    await filled(tmp_path / "log")
    log = await opened(tmp_path / "log")
    log.take("mailbox")
    await log.append(ONE)
    as_killed(tmp_path / "log", tmp_path / "killed")
    await log.close()
    old = tmp_path / "killed" / MARK
    before = read_marks(tmp_path / "killed")
    data = bytearray(old.read_bytes())
    for at in (0, 512):
        data[at + 72 : at + 512] = bytes(440)
    old.write_bytes(data)
    read = read_marks(tmp_path / "killed")
    assert read == [msgspec.structs.replace(mark, counters=0) for mark in before or []]
    log, told = await opened_and_told(tmp_path / "killed")
    assert (told, log.take("mailbox")) == ("", 5)
    await log.close()


@pytest.mark.parametrize("how", ["restored", "accept_loss"])
async def test_an_older_copy_that_takes_the_place_of_the_files_is_no_damage_of_its_counters(
    tmp_path: Path, how: str
) -> None:
    await filled(tmp_path)
    older = (tmp_path / DATABASE).read_bytes()
    log = await opened(tmp_path)
    log.take("mailbox")
    await log.append(ONE)
    await log.close()
    for path in tmp_path.glob(f"{DATABASE}*"):
        path.unlink()
    (tmp_path / DATABASE).write_bytes(older)
    log = await SqliteLog.open(
        tmp_path, ambient=FakeAmbient(2), master_key=MASTER_KEY, build="b",
        restored=how == "restored", accept_loss=how == "accept_loss",
    )  # fmt: skip
    assert await log.probe() is None
    assert log.take("mailbox") == (4 if how == "restored" else 4 + LOSS_STRIDE)
    await log.close()


async def test_counters_that_were_made_again_are_not_damaged_at_the_next_start_if_this_one_fails(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    changed(tmp_path, "UPDATE counter SET crc = crc + 1")
    for _ in range(3):
        with pytest.raises(WrongKey):
            await SqliteLog.open(tmp_path, ambient=FakeAmbient(1), master_key=bytes(32), build="b")
    log = await opened(tmp_path)
    assert log.take("mailbox") == 1 + LOSS_STRIDE
    await log.close()


@pytest.mark.parametrize("harm", [hide_last_row, spoil])
async def test_an_index_of_counters_that_is_damaged_moves_none(tmp_path: Path, harm: object) -> None:
    await filled(tmp_path)
    assert callable(harm)
    harm(tmp_path, "sqlite_autoindex_counter_1")
    log, told = await opened_and_told(tmp_path)
    assert "table counter is damaged" in told
    assert log.take("mailbox") == 4
    await log.close()


@pytest.mark.parametrize("harm", [hide_last_row, spoil])
@pytest.mark.parametrize("where", ["meta", "sqlite_autoindex_meta_1"])
async def test_a_log_without_its_own_values_opens_under_its_id_with_all_events(
    tmp_path: Path, where: str, harm: object
) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    before = log.log_id
    await log.close()
    assert callable(harm)
    harm(tmp_path, where)
    log, told = await opened_and_told(tmp_path)
    assert "table meta is damaged" in told
    assert log.log_id == before
    assert [log.head(f"s{n}").seq for n in range(3)] == [1, 1, 1]
    assert log.take("mailbox") >= 4
    assert log.take("another") >= 1
    await log.append(ONE)
    await log.close()
    assert find_damage(tmp_path / DATABASE) == []
    log = await opened(tmp_path)
    assert (await log.probe(), log.log_id) == (None, before)
    await log.close()


@pytest.mark.parametrize("key", [b"log", b"writer_epoch", b"master_key", b"indexed"])
async def test_a_key_that_its_index_lost_loses_no_value(tmp_path: Path, key: bytes) -> None:
    await filled(tmp_path)
    change_key(tmp_path, "sqlite_autoindex_meta_1", key)
    log, told = await opened_and_told(tmp_path)
    assert "table meta is damaged" in told
    assert log.take("mailbox") == 4
    await log.close()


async def test_a_log_whose_id_stands_nowhere_else_gets_another_one(tmp_path: Path) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    before = log.log_id
    await log.close()
    changed(tmp_path, "UPDATE meta SET crc = crc + 1 WHERE key = 'log'")
    for name in ("log.mark", "writer.lock"):
        (tmp_path / name).unlink()
    log = await SqliteLog.open(tmp_path, ambient=FakeAmbient(2), master_key=MASTER_KEY, build="b")
    told = await log.probe() or ""
    assert log.log_id != before
    assert f"the log has the new id {log.log_id}, and clients are reset" in told
    await log.close()


async def test_a_lost_mark_of_the_master_key_lets_no_other_key_in(tmp_path: Path) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, events=ONE.events, secrets=(SecretPut("m", "p", Secret("x")),)))
    await log.close()
    changed(tmp_path, "UPDATE meta SET crc = crc + 1 WHERE key = 'master_key'")
    with pytest.raises(WrongKey):
        await SqliteLog.open(tmp_path, ambient=FakeAmbient(1), master_key=bytes(32), build="b")
    log = await opened(tmp_path)
    assert (await log.secret("m", "p")) == Secret("x")
    await log.close()


async def test_a_damaged_value_of_the_index_makes_it_look_at_all_events_again(tmp_path: Path) -> None:
    await filled(tmp_path)
    change_in(tmp_path, "meta", b"indexed")
    changed(tmp_path, "DELETE FROM seq_index WHERE position = 2")
    log = await opened(tmp_path)
    assert [event.seq for event in await log.read("s1", 0, events_max=9)] == [1]
    await log.close()


async def test_a_damaged_table_of_ended_streams_is_made_anew_at_the_opening(tmp_path: Path) -> None:
    await filled(tmp_path)
    spoil(tmp_path, "ended")
    log, told = await opened_and_told(tmp_path)
    assert "table ended is damaged" in told
    await log.append(ONE)
    await log.close()
    assert find_damage(tmp_path / DATABASE) == []


async def test_a_damaged_table_of_tombstones_is_made_anew_by_a_rebuild_if_no_event_was_pruned(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    spoil(tmp_path, "pruned")
    log = await opened(tmp_path)
    await log.append(ONE)
    await log.close()
    assert all(damage.can_rebuild for damage in find_damage(tmp_path / DATABASE))
    rebuild(tmp_path)
    assert find_damage(tmp_path / DATABASE) == []


async def test_a_replica_makes_none_of_its_tables_again(tmp_path: Path) -> None:
    order = MemoryOrder()

    async def replica() -> SqliteLog:
        return await open_log(
            tmp_path, ambient=FakeAmbient(1), master_key=MASTER_KEY, build="b",
            sequencer=MemorySequencer(order), node="a",
        )  # fmt: skip

    log = await replica()
    await log.append(append(event("s")))
    await log.close()
    changed(tmp_path, "UPDATE meta SET crc = crc + 1 WHERE key = 'writer_epoch'")
    with pytest.raises(Corrupt, match="it is not made again: the others have it whole"):
        await replica()
