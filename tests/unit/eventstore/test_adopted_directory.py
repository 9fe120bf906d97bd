"""The directory of a single service can become the first replica of an ordered log."""

from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.backup import back_up, put_back
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.replicated import proposal
from huahuo.eventstore.replicated.opening import find_beginning
from huahuo.eventstore.replicated.proposal import Birth
from huahuo.eventstore.sqlite.log import (
    SqliteLog,
    become_replica,
    held_in,
    is_replica,
    larger_event,
    open_log,
)
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.logs import MASTER_KEY, append, event

pytestmark = pytest.mark.anyio


async def single(directory: Path, *bodies: bytes) -> tuple[str, bytes]:
    log = await SqliteLog.open(directory, ambient=FakeAmbient(1), master_key=MASTER_KEY, build="t")
    for body in bodies:
        await log.append(append(event("s", body)))
    found = log.log_id, log.writer.place.chain
    await log.close()
    return found


async def test_the_directory_of_a_single_service_becomes_a_replica_and_goes_on(tmp_path: Path) -> None:
    log_id, chain = await single(tmp_path, b"1", b"2")
    order = MemoryOrder()
    born = Birth(proposal.BIRTH_FORMAT, log_id, before=2)
    order.put(proposal.dump_birth(born, derive(MASTER_KEY, "proposals")))
    become_replica(tmp_path, chain)
    held = held_in(tmp_path)
    assert held is not None
    assert (held.log_id, held.offset) == (log_id, 1)
    assert not (await find_beginning(MemorySequencer(order), MASTER_KEY, FakeAmbient(2))).is_whole
    log = await open_log(
        tmp_path, ambient=FakeAmbient(3), master_key=MASTER_KEY, build="t",
        sequencer=MemorySequencer(order), node="a",
    )  # fmt: skip
    await log.append(append(event("s", b"3")))
    assert (log.log_id, await log.verify()) == (log_id, 3)
    await log.close()


async def test_the_first_event_that_is_too_large_for_a_cluster_is_named(tmp_path: Path) -> None:
    await single(tmp_path, b"small", b"x" * 1001, b"y" * 2000)
    assert larger_event(tmp_path, 1000) == (2, "s", "happened", 1001)
    assert larger_event(tmp_path, 2000) is None


async def test_a_backup_of_a_node_becomes_a_single_service_under_a_new_id(tmp_path: Path) -> None:
    node = await open_log(
        tmp_path / "a", ambient=FakeAmbient(3), master_key=MASTER_KEY, build="t",
        sequencer=MemorySequencer(MemoryOrder()), node="a",
    )  # fmt: skip
    await node.append(append(event("s", b"1")))
    await back_up(tmp_path / "a" / DATABASE, tmp_path / "backup", FakeAmbient(4))
    before = node.log_id
    await node.close()
    await put_back(tmp_path / "backup", tmp_path / "b")
    log = await SqliteLog.open(
        tmp_path / "b", ambient=FakeAmbient(5), master_key=MASTER_KEY, build="t", restored=True
    )
    await log.append(append(event("s", b"2")))
    assert log.log_id != before
    assert await log.verify() == 2
    await log.close()
    assert not is_replica(tmp_path / "b")
    assert is_replica(tmp_path / "a")
