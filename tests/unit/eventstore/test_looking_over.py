"""Rows that a damaged page hides: numbers are not given out again, and the probe tells of the rest."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from huahuo.eventstore.corruption import PLACES_MAX, Corruption
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.executor import InlineExecutor, ThreadExecutor
from huahuo.eventstore.model import (
    Ack,
    Append,
    CommandKey,
    CommandRecord,
    Duplicate,
    Keyframe,
    NewEvent,
    RowPut,
    Secret,
    SecretPut,
    Usage,
)
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.looking_over import LATER
from huahuo.eventstore.sqlite.rebuild import rebuild
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.usage import EVENT_BYTES
from tests.support.worlds.spoilt import change_key, filled, flip, hide_last_row, opened, page_of, spoil


@pytest.mark.parametrize(
    ("table", "key"), [("command", b"command-1"), ("projection", b"key-1")]
)  # fmt: skip
async def test_an_index_that_lost_a_row_is_made_again_and_told_by_the_probe(
    tmp_path: Path, table: str, key: bytes
) -> None:
    await filled(tmp_path)
    change_key(tmp_path, f"sqlite_autoindex_{table}_1", key)
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    said = await log.probe() or ""
    assert said.startswith(f"index of table {table} is damaged: row 2 missing from index")
    assert "it was made again" in said
    assert await log.command(CommandKey("user/1", "c", "command-1")) is not None
    assert len(await log.rows("table", "part", limit=9)) == 3
    await look.stop()
    await log.close()
    assert find_damage(tmp_path / DATABASE) == []


async def test_a_row_whose_key_is_another_rows_in_the_index_is_not_lost(tmp_path: Path) -> None:
    await filled(tmp_path)
    change_key(tmp_path, "sqlite_autoindex_command_1", b"command-1", bit=1)  # command-0 twice
    change_key(tmp_path, "sqlite_autoindex_projection_1", b"key-1", bit=1)
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    command = CommandRecord(CommandKey("user/1", "c", "command-1"), b"f", b"{}")
    done = await log.append(Append(ts_ms=0, events=(NewEvent("s9", "t", b"{}"),), command=command))
    assert isinstance(done, Duplicate)
    assert [key for key, _ in await log.rows("table", "part", limit=9)] == [b"key-2", b"key-1", b"key-0"]
    assert await log.row("table", "part", b"key-1") == b"value"
    assert "lost" not in (await log.probe() or "")
    await look.stop()
    await log.close()
    assert find_damage(tmp_path / DATABASE) == []


async def test_a_command_waits_for_the_look_and_does_not_run_twice(tmp_path: Path) -> None:
    await filled(tmp_path)
    change_key(tmp_path, "sqlite_autoindex_command_1", b"command-1")
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    command = CommandRecord(CommandKey("user/1", "c", "command-1"), b"f", b"{}")
    done = await log.append(Append(ts_ms=0, events=(NewEvent("s9", "t", b"{}"),), command=command))
    assert isinstance(done, Duplicate)
    assert log.head("s9").seq == 0
    await look.stop()
    await log.close()


async def test_a_list_waits_for_the_look_and_is_complete(tmp_path: Path) -> None:
    await filled(tmp_path)
    start = page_of(tmp_path, "sqlite_autoindex_projection_1")
    flip(tmp_path, (tmp_path / DATABASE).read_bytes().index(b"tablepartkey-1", start) + len(b"tablepar"))
    log = await opened(tmp_path)
    assert len(await log.rows("table", "part", limit=9)) < 3, "some are hidden"
    look = log.look_over(ThreadExecutor(1, "look"))
    assert len(await log.rows("table", "part", limit=9)) == 3
    await look.stop()
    await log.close()


async def test_of_a_table_that_lost_a_row_only_what_needs_the_row_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path)
    hide_last_row(tmp_path, "projection")
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    with pytest.raises(Corrupt, match="projection row table part 6b65792d32"):  # key-2
        await log.rows("table", "part", limit=9)
    assert await log.row("table", "part", b"absent") is None
    assert await log.row("table", "part", b"key-0") == b"value"
    assert await log.rows("table", "another part", limit=9) == []
    assert "one row of it is lost" in (await log.probe() or "")
    put = RowPut("table", "part", b"key-2", b"again")
    await log.append(Append(ts_ms=0, events=(NewEvent("s1", "t", b"{}"),), rows=(put,)))
    assert [value for _, value in await log.rows("table", "part", limit=9)] == [b"again", b"value", b"value"]
    await look.stop()
    await log.close()
    assert find_damage(tmp_path / DATABASE) == []


async def test_a_list_of_which_the_index_lost_an_entry_is_whole_again(tmp_path: Path) -> None:
    await filled(tmp_path)
    hide_last_row(tmp_path, "sqlite_autoindex_projection_1")
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    assert len(await log.rows("table", "part", limit=9)) == 3
    await look.stop()
    await log.close()


async def test_a_list_is_refused_if_neither_the_table_nor_its_index_tells_which_rows_are_lost(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    for page in ("projection", "sqlite_autoindex_projection_1"):
        spoil(tmp_path, page)
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    with pytest.raises(Corrupt, match="table projection"):
        await log.rows("table", "part", limit=9)
    await look.stop()
    await log.close()


async def test_a_row_that_a_start_reads_is_waited_for_while_its_index_is_made_again(tmp_path: Path) -> None:
    await filled(tmp_path)
    spoil(tmp_path, "sqlite_autoindex_projection_1")
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    assert await log.row("table", "part", b"key-1") == b"value"
    await look.stop()
    await log.close()


async def test_a_secret_beside_lost_ones_is_opened_and_a_lost_one_is_refused(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    for owner in ("o1", "o2"):
        await log.append(Append(ts_ms=0, secrets=(SecretPut(owner, "p", Secret(owner)),)))
    await log.close()
    hide_last_row(tmp_path, "data_key")
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    assert await log.secret("o1", "p") == Secret("o1")
    with pytest.raises(Corrupt):
        await log.secret("o2", "p")
    with pytest.raises(Corrupt):
        await log.append(Append(ts_ms=0, secrets=(SecretPut("o2", "q", Secret("new")),)))
    await log.append(Append(ts_ms=0, secrets=(SecretPut("o3", "q", Secret("new")),)))
    await look.stop()
    await log.close()


@pytest.mark.parametrize("table", ["projection", "command", "data_key", "sealed", "blob"])
async def test_an_index_of_which_a_page_is_none_any_more_is_made_again(tmp_path: Path, table: str) -> None:
    await filled(tmp_path)
    spoil(tmp_path, f"sqlite_autoindex_{table}_1")
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    assert len(await log.rows("table", "part", limit=9)) == 3
    await look.finished()
    assert list(log.corruption.places) == [f"index of table {table}"]
    command = CommandRecord(CommandKey("user/1", "c", "command-1"), b"f", b"{}")
    assert isinstance(await log.append(Append(ts_ms=0, command=command)), Duplicate)
    await log.append(Append(ts_ms=0, rows=(RowPut("table", "part", b"key-1", b"newer"),)))
    await log.append(Append(ts_ms=0, secrets=(SecretPut("o", "p", Secret("s")),)))
    assert await log.row("table", "part", b"key-1") == b"newer"
    await look.stop()
    await log.close()
    assert find_damage(tmp_path / DATABASE) == []


async def test_an_index_with_two_rows_of_one_key_is_not_made_again_and_hides(tmp_path: Path) -> None:
    await filled(tmp_path)
    change_key(tmp_path, "sqlite_autoindex_projection_1", b"key-1")
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, rows=(RowPut("table", "part", b"key-1", b"newer"),)))
    look = log.look_over(ThreadExecutor(1, "look"))
    with pytest.raises(Corrupt, match="table projection"):
        await log.rows("table", "part", limit=9)
    await log.append(Append(ts_ms=0, events=(NewEvent("s0", "t", b"{}"),)))
    await look.stop()
    await log.close()


async def test_a_command_that_an_index_hides_is_found_again(tmp_path: Path) -> None:
    await filled(tmp_path)
    hide_last_row(tmp_path, "sqlite_autoindex_command_1")
    log = await opened(tmp_path)
    assert await log.command(CommandKey("user/1", "c", "command-2")) is None, "a repeat would run twice"
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    assert (await log.probe() or "").startswith("index of table command is damaged")
    hidden = CommandRecord(CommandKey("user/1", "c", "command-2"), b"f", b"{}")
    done = await log.append(Append(ts_ms=0, events=(NewEvent("s9", "t", b"{}"),), command=hidden))
    assert isinstance(done, Duplicate)
    await look.stop()
    await log.close()


async def test_a_command_whose_record_is_lost_is_refused_and_others_run(tmp_path: Path) -> None:
    await filled(tmp_path)
    hide_last_row(tmp_path, "command")
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))

    async def run(name: str) -> object:
        record = CommandRecord(CommandKey("user/1", "c", name), b"f", b"{}")
        return await log.append(Append(ts_ms=0, events=(NewEvent("s9", "t", b"{}"),), command=record))

    with pytest.raises(Corrupt, match="command record user/1 c command-2"):
        await run("command-2")
    assert isinstance(await run("command-1"), Duplicate)
    await run("a new one")
    assert log.head("s9").seq == 1
    await look.stop()
    await log.close()


async def test_the_doctor_says_that_a_page_of_an_index_can_be_made_again_and_that_mends_it(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    hide_last_row(tmp_path, "sqlite_autoindex_command_1")
    found = find_damage(tmp_path / DATABASE)
    assert found
    assert all(damage.can_rebuild for damage in found), found
    rebuild(tmp_path)
    assert find_damage(tmp_path / DATABASE) == []
    log = await opened(tmp_path)
    assert await log.command(CommandKey("user/1", "c", "command-2")) is not None
    await log.close()


async def test_nothing_is_told_of_a_whole_log_and_a_look_can_be_ended_at_once(tmp_path: Path) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    await look.stop()
    assert LATER
    assert await log.probe() is None
    await log.look_over(ThreadExecutor(1, "look")).stop()
    assert await log.probe() is None
    await log.close()


async def test_damage_that_hides_nothing_is_an_alarm_and_commands_go_on(tmp_path: Path) -> None:
    await filled(tmp_path)
    flip(tmp_path, page_of(tmp_path, "command") + 7)  # how many bytes between its rows are free
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    assert (await log.probe() or "").startswith("a row of table command is damaged: Fragmentation of")
    new = CommandRecord(CommandKey("user/1", "c", "new"), b"f", b"{}")
    await log.append(Append(ts_ms=0, events=(NewEvent("s9", "t", b"{}"),), command=new))
    await look.stop()
    await log.close()


async def test_what_hides_a_row_is_known_behind_damage_that_hides_nothing(tmp_path: Path) -> None:
    await filled(tmp_path)
    flip(tmp_path, page_of(tmp_path, "command") + 7)
    hide_last_row(tmp_path, "sqlite_autoindex_command_1")
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    assert await log.command(CommandKey("user/1", "c", "command-2")) is not None
    await look.stop()
    await log.close()


async def test_an_owner_whose_key_an_index_hides_gets_no_second_one(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    for owner in ("o1", "o2"):
        await log.append(Append(ts_ms=0, secrets=(SecretPut(owner, "p", Secret("old")),)))
    await log.close()
    hide_last_row(tmp_path, "sqlite_autoindex_data_key_1")
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    await log.append(Append(ts_ms=0, secrets=(SecretPut("o2", "q", Secret("new")),)))
    assert await log.secret("o2", "p") == Secret("old")
    await look.stop()
    await log.close()


def test_a_damaged_table_is_remembered_however_many_places_are() -> None:
    corruption = Corruption()
    for n in range(PLACES_MAX):
        corruption.note(Corrupt(f"stream {n}", "damaged"))
    corruption.note(Corrupt("table command", "damaged"))
    with pytest.raises(Corrupt):
        corruption.must_not_hide("command")


async def test_a_look_ends_also_where_sqlite_does_not_ask_whether_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path)
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(connection: sqlite3.Connection, _: str) -> None:
        connection.set_progress_handler(None, 0)
        loop.call_soon_threadsafe(begun.set)
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        connection.execute(f"{numbers} SELECT count(*) FROM n").fetchall()

    monkeypatch.setattr("huahuo.eventstore.sqlite.looking_over.damage_of", endless)
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await begun.wait()
    await look.stop()
    assert await log.probe() is None
    await log.close()


class Stuck(InlineExecutor):
    """Its jobs never end."""

    waits: bool | None = None

    async def run[T](self, job: Callable[[], T]) -> T:
        """See `Executor`."""
        never: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        return await never

    def close(self, *, wait: bool = True) -> None:
        """See `Executor`."""
        self.waits = wait


async def test_a_stop_that_is_given_up_frees_its_thread_and_does_not_wait_for_it(tmp_path: Path) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    executor = Stuck()
    stopping = asyncio.create_task(log.look_over(executor).stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert executor.waits is False
    await log.close()


@pytest.mark.parametrize("page", ["ack", "sqlite_autoindex_ack_1", "keyframe", "usage"])
async def test_a_table_that_fills_again_by_itself_is_made_anew(tmp_path: Path, page: str) -> None:
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, events=(NewEvent("user/1", "t", b"{}"),)))
    await log.save_acks([Ack("user/1", "c", "user/1", 1)])
    await log.put_keyframe(Keyframe("user/1", "fold", "f", 1, b"state"))
    await log.count_usage(log.position)
    await log.close()
    spoil(tmp_path, page)
    log = await opened(tmp_path)
    look = log.look_over(ThreadExecutor(1, "look"))
    await look.finished()
    assert "it was made" in (await log.probe() or "")
    await log.save_acks([Ack("user/1", "c", "user/1", 1)])
    await log.put_keyframe(Keyframe("user/1", "fold", "f", 1, b"state"))
    await log.count_usage(log.position)
    assert (await log.usage())[1] == [Usage("user/1", 2 + EVENT_BYTES, 0)]
    await look.stop()
    await log.close()
    assert find_damage(tmp_path / DATABASE) == []


async def test_a_damaged_page_refuses_only_the_appends_that_write_to_it(tmp_path: Path) -> None:
    await filled(tmp_path)
    spoil(tmp_path, "projection")
    log = await opened(tmp_path)
    row = (RowPut("table", "part", b"key", b"value"),)
    done = await asyncio.gather(
        *(
            log.append(Append(ts_ms=0, events=(NewEvent(f"s{n % 3}", "t", b"{}"),), rows=row * (n in (3, 6))))
            for n in range(9)
        ),
        return_exceptions=True,
    )
    assert [isinstance(one, Corrupt) for one in done] == [n in (3, 6) for n in range(9)]
    assert [log.head(f"s{n}").seq for n in range(3)] == [2, 4, 4]
    assert "is damaged" in (await log.probe() or "")
    assert await log.verify() == 10
    await log.close()


async def test_new_names_beside_a_damaged_page_are_not_lost(tmp_path: Path) -> None:
    await filled(tmp_path)
    spoil(tmp_path, "projection")
    log = await opened(tmp_path)
    row = (RowPut("table", "part", b"key", b"value"),)
    done = await asyncio.gather(
        log.append(Append(ts_ms=0, events=(NewEvent("new", "another type", b"{}"),))),
        log.append(Append(ts_ms=0, events=(NewEvent("s1", "t", b"{}"),), rows=row)),
        log.append(Append(ts_ms=0, events=(NewEvent("new", "t", b"{}"),))),
        return_exceptions=True,
    )
    assert [isinstance(one, Corrupt) for one in done] == [False, True, False]
    await log.close()
    log = await opened(tmp_path)
    assert [event.type for event in await log.read("new", 0, events_max=9)] == ["another type", "t"]
    await log.close()
