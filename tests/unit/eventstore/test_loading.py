"""What an opening keeps in memory of each stream, and what it then knows of it."""

import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.model import Append, Head, NewEvent, Pruning
from huahuo.eventstore.sqlite import names
from huahuo.eventstore.sqlite.log import SqliteLog
from tests.support.worlds.sqlite_logs import opened

STREAMS = 4_000
BYTES_A_STREAM = 80


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


async def test_a_stream_that_rests_takes_few_bytes(tmp_path: Path) -> None:
    async with reopened(tmp_path, named(STREAMS)) as log:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            loaded = log.store.recover()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < STREAMS * BYTES_A_STREAM
        assert loaded.place().head("user/7") == Head(1, 2)


async def test_a_stream_that_rested_goes_on_at_its_head(tmp_path: Path) -> None:
    async with reopened(tmp_path, named(10)) as log:
        assert log.streams("user/") == sorted(named(10))
        assert (log.head("user/3"), log.head("user/30")) == (Head(1, 2), Head())
        late = Append(ts_ms=0, events=(NewEvent("user/3", "said", b"{}"),), expected={"user/3": 1})
        with pytest.raises(Conflict):
            await log.append(late)
        await append(log, "user/3", "user/30", "user/3")
        assert (log.head("user/3").seq, log.head("user/30").seq) == (4, 1)
        assert [event.seq for event in await log.read("user/3", 0, events_max=9)] == [1, 2, 3, 4]
        assert log.streams_in_memory == 12


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


@pytest.mark.parametrize("seed", range(6))
async def test_an_opening_knows_the_heads_that_a_seek_for_each_stream_finds(
    tmp_path: Path, seed: int
) -> None:
    chance = Random(seed)
    async with reopened(tmp_path, named(400)) as log:
        for stream in chance.sample(named(500), 60):
            await append(log, *[stream] * chance.randint(1, 3))
        ended = chance.sample(named(400), chance.choice((3, 90)))
        await log.append(Append(ts_ms=0, ended=tuple(ended)))
        pruned = chance.choice([name for name in named(400) if name not in ended])
        [first, *_] = await log.read(pruned, 0, events_max=1)
        await log.append(Append(ts_ms=0, prune=Pruning((first.position,), {pruned: 2})))
        place = log.store.recover().place()  # asks the index for each stream
        heads = {name: place.head(name) or Head() for name in (*named(500), "last")}
        assert heads[pruned] == Head(2, log.head(pruned).seq)
        assert heads[ended[0]] == Head()
    log = await opened(tmp_path)
    found = {name: log.head(name) for name in heads if name not in ended}
    await log.close()
    for name, head in found.items():
        assert (name, head.first, head.seq) == (name, heads[name].first, heads[name].seq)
