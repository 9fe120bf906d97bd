"""The search for events takes room on the disk of the log, and no more memory for a larger log."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append, NewEvent, Pruning
from huahuo.eventstore.sqlite.schema import DATABASE, PAGE_BYTES
from huahuo.eventstore.sqlite.search_scratch import PUT_HURT, SCRATCH, has_room, scan
from tests.support.worlds.event_leaves import leaves, left, write
from tests.support.worlds.spoilt import as_killed, opened


async def test_what_a_search_finds_is_in_a_file_of_the_logs_directory_without_a_name(tmp_path: Path) -> None:
    await left(tmp_path, "closed")
    before = set((tmp_path / "closed").iterdir())
    with closing(scan(tmp_path / "closed" / DATABASE)) as scratch:
        [(_number, _name, file)] = scratch.execute("PRAGMA database_list").fetchall()
        assert Path(file).parent == tmp_path / "closed"
        assert set((tmp_path / "closed").iterdir()) == before


async def test_a_file_that_a_killed_search_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    await (await opened(tmp_path)).close()
    (tmp_path / f"{SCRATCH}abc").touch()
    await (await opened(tmp_path)).close()
    assert not list(tmp_path.glob(f"{SCRATCH}*"))


async def test_a_search_without_room_on_the_disk_names_the_directory(tmp_path: Path) -> None:
    await left(tmp_path, "closed")
    with closing(scan(tmp_path / "closed" / DATABASE)) as scratch:
        [pages] = scratch.execute("PRAGMA page_count").fetchone()
        scratch.execute(f"PRAGMA max_page_count={pages}")
        row = (1, *[0] * 10, bytes(PAGE_BYTES * 10), b"")
        with pytest.raises(EventStoreError, match=re.escape(f"{tmp_path} has no room")), has_room(tmp_path):
            scratch.execute(PUT_HURT, row)


async def test_a_tombstone_with_a_seq_that_was_never_written_refuses_a_log_with_lost_events(
    tmp_path: Path,
) -> None:
    log = await opened(tmp_path / "log")
    for n in range(200):
        await log.append(Append(ts_ms=0, events=(NewEvent(f"s{n % 4}", "t", b"x" * 200),)))
    await log.append(Append(ts_ms=0, prune=Pruning((1, 5), {"s0": 2})))
    as_killed(tmp_path / "log", tmp_path / "killed")
    await log.close()
    with closing(sqlite3.connect(tmp_path / "killed" / DATABASE)) as connection, connection:
        connection.execute("UPDATE pruned SET seq = seq + (1 << 30) WHERE position = 5")
    write(tmp_path / "killed", leaves(tmp_path / "killed")[2], bytes(PAGE_BYTES))
    with pytest.raises(EventStoreError, match="malformed"):
        await opened(tmp_path / "killed")
