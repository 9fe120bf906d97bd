"""A changed, cut or torn SQLite log is found out when it is opened or read, or by `verify`."""

import json
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.sqlite.directory_lock import LOCK, DirectoryLock
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import append, event
from tests.support.worlds.sqlite_logs import filled, opened, verified


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
    log = await opened(tmp_path, FakeAmbient(2), restored=True)
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
    with pytest.raises(Damaged):
        await opened(tmp_path)


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
