"""Damage in what an opening reads: it keeps the log closed where numbers hang on it, and else does not."""

from pathlib import Path

import pytest

from huahuo.eventstore.errors import Corrupt, Damaged
from huahuo.eventstore.model import Append, CommandKey, CommandRecord, NewEvent
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.spoilt import filled, spoil
from tests.support.worlds.sqlite_logs import opened


@pytest.mark.parametrize("page", ["seq_index", "stream", "stream_unique", "name", "meta", "counter"])
async def test_what_an_opening_needs_as_a_whole_and_cannot_be_read_keeps_the_log_closed(
    tmp_path: Path, page: str
) -> None:
    await filled(tmp_path)
    spoil(tmp_path, page)
    with pytest.raises(Damaged):
        await opened(tmp_path)
    assert find_damage(tmp_path / DATABASE)


@pytest.mark.parametrize("page", ["command", "sqlite_autoindex_command_1"])
async def test_command_records_that_cannot_be_counted_are_told_when_they_are_asked_for(
    tmp_path: Path, page: str
) -> None:
    await filled(tmp_path)
    spoil(tmp_path, page)
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, events=(NewEvent("s1", "t", b"{}"),)))
    again = CommandRecord(CommandKey("user/1", "c", "command-1"), b"f", b"{}")
    with pytest.raises(Corrupt):
        await log.append(Append(ts_ms=0, events=(NewEvent("s2", "t", b"{}"),), command=again))
    assert [log.head("s1").seq, log.head("s2").seq] == [2, 1]
    await log.close()


@pytest.mark.parametrize("left", [b'{"log":"\xff"}', b"{", b"[]"])
async def test_a_lock_file_that_cannot_be_read_does_not_keep_a_log_closed(
    tmp_path: Path, left: bytes
) -> None:
    await filled(tmp_path)
    (tmp_path / LOCK).write_bytes(left)
    log = await opened(tmp_path)
    assert [event.seq for event in await log.read("s1", 0, events_max=9)] == [1]
    await log.close()
