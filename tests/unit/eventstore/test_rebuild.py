"""A rebuild also mends what a damaged index of SQLite's own let in: two rows with one key."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.model import Append, CommandKey, CommandRecord, Keyframe, RowPut
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.rebuild import rebuild
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.spoilt import change_key, filled, hide_last_row, opened, spoil


async def test_of_two_rows_with_one_key_a_rebuild_keeps_the_newer_one(tmp_path: Path) -> None:
    await filled(tmp_path)
    change_key(tmp_path, "sqlite_autoindex_projection_1", b"key-1")
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, rows=(RowPut("table", "part", b"key-1", b"newer"),)))
    await log.close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        sql = "SELECT count(*) FROM projection NOT INDEXED WHERE key = CAST('key-1' AS BLOB)"
        assert connection.execute(sql).fetchone() == (2,), "the damaged index let a second row in"
    rebuild(tmp_path)
    assert find_damage(tmp_path / DATABASE) == []
    log = await opened(tmp_path)
    assert await log.rows("table", "part", limit=9) == [
        (b"key-2", b"value"), (b"key-1", b"newer"), (b"key-0", b"value"),
    ]  # fmt: skip
    await log.close()


@pytest.mark.parametrize("table", ["command", "projection", "counter"])
async def test_a_rebuild_makes_an_index_again_of_which_no_page_can_be_read(
    tmp_path: Path, table: str
) -> None:
    await filled(tmp_path)
    spoil(tmp_path, f"sqlite_autoindex_{table}_1")
    assert all(damage.can_rebuild for damage in find_damage(tmp_path / DATABASE))
    rebuild(tmp_path)
    assert find_damage(tmp_path / DATABASE) == []
    log = await opened(tmp_path)
    assert await log.command(CommandKey("user/1", "c", "command-1")) == CommandRecord(
        CommandKey("user/1", "c", "command-1"), b"f", b"{}"
    )
    assert len(await log.rows("table", "part", limit=9)) == 3
    assert log.take("mailbox") == 4
    await log.close()


@pytest.mark.parametrize("table", ["seq_index", "keyframe"])
async def test_a_rebuild_makes_a_table_again_whose_pages_cannot_be_read(tmp_path: Path, table: str) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    await log.put_keyframe(Keyframe("s1", "fold", "f", 1, b"state"))
    await log.close()
    spoil(tmp_path, table)
    found = await asyncio.to_thread(find_damage, tmp_path / DATABASE)
    assert found
    assert all(damage.can_rebuild for damage in found), found
    rebuild(tmp_path)
    assert find_damage(tmp_path / DATABASE) == []
    log = await opened(tmp_path)
    assert [event.seq for event in await log.read("s1", 0, events_max=9)] == [1]
    await log.put_keyframe(Keyframe("s1", "fold", "f", 1, b"state"))
    assert await log.keyframe("s1", "fold", "f") is not None
    await log.close()


async def test_a_number_that_a_page_hides_stays_damaged_after_a_rebuild_until_the_log_is_opened(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    hide_last_row(tmp_path, "counter")
    rebuild(tmp_path)
    assert any("counter" in damage.text for damage in find_damage(tmp_path / DATABASE))
    log = await opened(tmp_path)
    await log.close()
    assert find_damage(tmp_path / DATABASE) == []
