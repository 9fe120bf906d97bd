"""Rows that a damaged page hides: numbers are not given out again, and the probe tells of the rest."""

import asyncio
from pathlib import Path

import pytest

from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.executor import ThreadExecutor
from huahuo.eventstore.model import (
    Append,
    CommandKey,
    CommandRecord,
    NewEvent,
    RowPut,
    Secret,
    SecretPut,
)
from tests.support.worlds.spoilt import filled, flip, hide_last_row, page_of, spoil
from tests.support.worlds.sqlite_logs import opened


async def test_an_owner_whose_key_may_be_hidden_gets_no_second_one(tmp_path: Path) -> None:
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
    await look.stop()
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
