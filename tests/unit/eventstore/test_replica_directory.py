"""A directory as a node's replica: how far the order is applied is written with what was applied."""

from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.executor import ThreadExecutor
from huahuo.eventstore.sqlite.log import SqliteLog, open_log
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.logs import MASTER_KEY, command, event
from tests.support.worlds.spoilt import change_key

pytestmark = pytest.mark.anyio


async def open_replica(directory: Path, order: MemoryOrder, node: str = "a") -> SqliteLog:
    return await open_log(
        directory, ambient=FakeAmbient(node), master_key=MASTER_KEY, build="test",
        sequencer=MemorySequencer(order), node=node,
    )  # fmt: skip


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
