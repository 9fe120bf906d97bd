"""A directory as a node's replica: how far the order is applied is written with what was applied."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Corrupt, EventStoreError, Unavailable
from huahuo.eventstore.executor import ThreadExecutor
from huahuo.eventstore.model import Appended
from huahuo.eventstore.replicated.state_machine import dump_shared
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.log import SqliteLog, held_in, open_log
from huahuo.eventstore.sqlite.schema import DATABASE, register
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.logs import MASTER_KEY, append, command, event
from tests.support.worlds.spoilt import change_key

pytestmark = pytest.mark.anyio


async def open_replica(directory: Path, order: MemoryOrder, node: str = "a") -> SqliteLog:
    return await open_log(
        directory, ambient=FakeAmbient(node), master_key=MASTER_KEY, build="test",
        sequencer=MemorySequencer(order), node=node,
    )  # fmt: skip


NOTES = {
    "its newest row is gone": "DELETE FROM passed WHERE offset = (SELECT max(offset) FROM passed)",
    "a row in the middle is gone": "DELETE FROM passed WHERE offset = 3",
    "all its rows are gone": "DELETE FROM passed",
    "the value is gone": "DELETE FROM meta WHERE key = 'shared'",
    "the value is of an earlier commit": (
        "UPDATE meta SET value = :value, crc = row_crc('meta', 'shared', :value) WHERE key = 'shared'"
    ),
    "its rows are of an earlier commit": "DELETE FROM passed WHERE offset > 4",
    "the chain in it is another one": (
        "UPDATE passed SET chain = :other, crc = row_crc('passed', offset, :other, digest)"
        " WHERE offset = (SELECT max(offset) FROM passed)"
    ),
}


@pytest.mark.parametrize("changed", NOTES)
async def test_a_note_that_is_not_of_the_logs_end_is_found_though_each_row_fits(
    tmp_path: Path, changed: str
) -> None:
    order = MemoryOrder()
    log = await open_replica(tmp_path, order)
    await log.append(append(event("s")))
    assert isinstance(log.writer, ReplicaWriter)
    earlier = dump_shared(log.writer.shared)
    for _ in range(3):
        await log.append(append(event("s")))
    await log.close()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as connection:
        register(connection)
        values = {"value": earlier, "other": b"x" * 32}
        assert connection.execute(NOTES[changed], values).rowcount > 0
    with pytest.raises(Corrupt, match="the note of what this node has applied is damaged"):
        await open_replica(tmp_path, order)
    assert any("the note of what" in one for one in find_damage(tmp_path / DATABASE))


async def test_a_replica_whose_note_is_gone_is_not_opened_as_a_single_service(tmp_path: Path) -> None:
    log = await open_replica(tmp_path, MemoryOrder())
    await log.append(append(event("s")))
    await log.close()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as connection:
        connection.execute("DELETE FROM meta WHERE key = 'shared'")
    with pytest.raises(EventStoreError, match="several nodes share"):
        await SqliteLog.open(tmp_path, ambient=FakeAmbient(1), master_key=MASTER_KEY, build="t")


async def test_a_first_start_that_was_cut_off_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()
    assert held_in(tmp_path) is None
    log = await open_replica(tmp_path, MemoryOrder())
    assert isinstance(await log.append(append(event("s"))), Appended)
    await log.close()


async def test_a_node_whose_damage_keeps_it_from_applying_stops_for_good(
    tmp_path: Path,
) -> None:
    order = MemoryOrder()
    log = await open_replica(tmp_path / "a", order)
    other = await open_replica(tmp_path / "b", order, "b")
    assert isinstance(log.writer, ReplicaWriter)
    told: list[str] = []
    log.writer.differed = told.append
    log.corruption.note(Corrupt("table command", "a page is damaged"))
    await other.append(command("c", event("s")))
    with pytest.raises(Unavailable, match="may be hidden"):
        await log.writer.applied(order.last)
    assert "keep a copy of its directory before" in (log.writer.trouble or "")
    assert len(told) == 1
    assert (log.head("s").seq, other.head("s").seq) == (0, 1)
    await log.close()
    await other.close()


async def test_a_replica_waits_for_the_look_at_its_rows_and_repeats_no_command(tmp_path: Path) -> None:
    order = MemoryOrder()
    log = await open_replica(tmp_path, order)
    await log.append(command("twice", event("s")))
    await log.close()
    change_key(tmp_path, "sqlite_autoindex_command_1", b"twice")
    log = await open_replica(tmp_path, order)
    look = log.look_over(ThreadExecutor(1, "look"))
    with pytest.raises(Unavailable, match="table command is damaged"):
        await log.append(command("twice", event("s")))
    assert log.position == 1
    await look.stop()
    await log.close()
