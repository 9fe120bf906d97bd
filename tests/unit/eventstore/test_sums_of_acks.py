"""Rows of acks and of counted bytes: one that was changed on the disk is never served as it is."""

from pathlib import Path

import pytest

from huahuo.eventstore.executor import ThreadExecutor
from huahuo.eventstore.model import Ack, Append, NewEvent, Usage
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE, EVENT_BYTES
from tests.support.worlds.sqlite_logs import opened, sql

ONE, TWO = Ack("user/1", "dev", "user/1", 5), Ack("user/2", "dev", "user/2", 3)
COUNTED = [Usage("user/1", 5 * (2 + EVENT_BYTES), 4), Usage("user/2", 3 * (2 + EVENT_BYTES), 0)]
MORE = "UPDATE usage SET events = events + 1024 WHERE user = 'user/1'"


async def filled(directory: Path) -> None:
    log = await opened(directory)
    for user, count in (("user/1", 5), ("user/2", 3)):
        await log.append(Append(ts_ms=0, events=(NewEvent(user, "t", b"{}"),) * count))
    await log.append(Append(ts_ms=0, blobs=(b"blob",), owner="user/1"))
    await log.save_acks([ONE, TWO])
    await log.count_usage(log.position)
    blobs = (await log.usage())[1][0].blobs
    COUNTED[0] = Usage(COUNTED[0].user, COUNTED[0].events, blobs)
    await log.close()


async def looked_over(log: SqliteLog) -> str:
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    await look.stop()
    return await log.probe() or ""


@pytest.mark.parametrize(
    "change", ["UPDATE ack SET client = 'dew' WHERE user = 'user/1'", MORE], ids=["ack", "usage"]
)
async def test_a_start_finds_a_row_that_was_changed_though_nobody_asks_for_it(
    tmp_path: Path, change: str
) -> None:
    await filled(tmp_path)
    sql(tmp_path, change)
    log = await opened(tmp_path)
    assert "some do not fit their checksum" in await looked_over(log)
    await log.close()
    assert len(find_damage(tmp_path / DATABASE)) == 1
