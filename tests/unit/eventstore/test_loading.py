"""What an opening keeps in memory of each stream, and what it then knows of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite import names
from huahuo.eventstore.sqlite.log import SqliteLog
from tests.support.worlds.sqlite_logs import opened


@asynccontextmanager
async def reopened(directory: Path, streams: list[str]) -> AsyncIterator[SqliteLog]:
    """A log in which each of `streams` has two events, and of which nothing but that is known."""
    log = await opened(directory)
    for _ in range(2):
        await append(log, *streams)
    await append(log, *["last"] * 1_000)  # the links of the newest events are kept
    await log.close()
    await (await opened(directory)).close()  # the index has all of them by now
    log = await opened(directory)
    try:
        yield log
    finally:
        await log.close()


async def append(log: SqliteLog, *streams: str) -> None:
    await log.append(Append(ts_ms=0, events=tuple(NewEvent(stream, "said", b"{}") for stream in streams)))


def named(count: int) -> list[str]:
    return [f"user/{number}" for number in range(count)]


async def test_many_streams_that_were_written_to_are_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huahuo.eventstore.core.storage_port.UNPACKED_MAX", 3)
    monkeypatch.setattr(names, "_UNPACKED_MAX", 3)
    async with reopened(tmp_path, named(20)) as log:
        for stream in named(20):
            await append(log, stream, "user/0", "user/19")
        assert len(log.writer.place.heads) < 10
        assert {log.head(stream).seq for stream in named(19)[1:]} == {3}
        assert (log.head("user/0").seq, log.head("user/19").seq) == (23, 23)
        assert log.streams_in_memory == 21
        await log.verify()
