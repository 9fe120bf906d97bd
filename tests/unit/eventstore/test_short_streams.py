"""Many short streams read together: what reading each gives, with few statements, and no check left out."""

import random
from pathlib import Path
from typing import Any

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.compaction import Policy, compact
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Page, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite import events, seq_index
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.reads import SqliteReads
from tests.support.worlds.logs import ENGINES, append, event, make_engine
from tests.support.worlds.logs import opened as engine_opened
from tests.support.worlds.sqlite_logs import opened, sql

STREAMS = [f"meter/{number}" for number in range(40)]


async def fill(log: SqliteLog, rng: random.Random, appends: int) -> None:
    for _ in range(appends):
        some = (event(rng.choice(STREAMS), b'{"n":%d}' % rng.getrandbits(60)) for _ in range(9))
        await log.append(append(*some))


def pages(log: Log, streams: list[str], *, after: int = 0, bytes_max: int = 1 << 20) -> list[Page]:
    return [Page(stream, after, log.head(stream).seq, bytes_max) for stream in streams]


async def as_each(log: Log, asked: list[Page]) -> None:
    alone = [
        await log.read(page.stream, page.after, events_max=page.events_max, bytes_max=page.bytes_max)
        for page in asked
    ]
    assert await log.read_pages(asked) == alone


@pytest.mark.parametrize("name", ENGINES)
async def test_pages_are_what_reading_each_of_them_gives(name: str, tmp_path: Path) -> None:
    async with engine_opened(make_engine(name, tmp_path)) as log:
        for number in range(30):
            await log.append(append(event(f"a/{number % 7}"), event("log/x"), event("b")))
        streams = ["a/1", "nobody", "b", "a/1", "a/2", "log/x"]
        await as_each(log, pages(log, streams))
        await as_each(log, pages(log, streams, after=2))
        await as_each(log, [Page("b", 0, 99, 1 << 20), Page("b", 5, 99, 1 << 20), Page("b", 0, 3, 1 << 20)])
        await as_each(log, [Page("b", 0, 3, 1 << 20), Page("a/3", 0, 99, 1), Page("log", 0, 5, 1 << 20)])


async def test_they_are_found_wherever_the_index_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seq_index, "UNINDEXED_MAX", 40)
    monkeypatch.setattr(seq_index, "SLICE_MIN", 8)
    rng, log = random.Random(5), await opened(tmp_path)
    for _ in range(12):
        await fill(log, rng, 4)
        await as_each(log, pages(log, STREAMS))
        await as_each(log, pages(log, rng.sample(STREAMS, 9)))
    await log.close()


async def test_what_was_pruned_stays_a_hole(tmp_path: Path) -> None:
    rng, log = random.Random(6), await opened(tmp_path)
    await fill(log, rng, 30)
    await compact(
        log, Policy(types=frozenset({"happened"}), before_ms=2_000_000_000_000, keep=2), FakeAmbient(2), ""
    )
    await as_each(log, pages(log, STREAMS))
    await log.close()


async def test_none_of_many_short_streams_is_read_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await opened(tmp_path)
    await log.append(append(*(event(stream, b'{"n":1}') for stream in STREAMS)))
    await log.close()
    log = await opened(tmp_path)
    await log.append(append(*(event(stream, b'{"n":2}') for stream in STREAMS[::2])))
    monkeypatch.setattr(SqliteReads, "events", None)
    found = await log.read_pages(pages(log, STREAMS))
    assert [len(events) for events in found] == [2, 1] * 20
    monkeypatch.undo()
    await log.close()


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE event SET body = x'7b7d' WHERE position = 7",
        "UPDATE event SET ts = 1 WHERE position = 7",
        "DELETE FROM event WHERE position = 7",
    ],
)
async def test_of_streams_of_which_one_is_damaged_the_others_are_read_without_it(
    harm: str, tmp_path: Path
) -> None:
    log = await opened(tmp_path)
    await log.append(append(*(event(stream, b'{"n":1}') for stream in STREAMS)))
    await log.close()
    sql(tmp_path, harm)
    log = await opened(tmp_path)
    with pytest.raises(Corrupt):
        await log.read_pages(pages(log, STREAMS))
    others = [stream for stream in STREAMS if stream != "meter/6"]
    assert all(len(events) == 1 for events in await log.read_pages(pages(log, others[:3])))
    await log.close()


@pytest.mark.parametrize("indexed", [True, False])
async def test_many_streams_of_large_events_take_no_more_memory_than_one_of_them(
    indexed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await opened(tmp_path)
    for _ in range(2):
        for stream in STREAMS[:20]:
            await log.append(append(event(stream, b"x" * 100_000)))
    if indexed:
        await log.close()
        log = await opened(tmp_path)
    sizes: list[int] = []
    stored = events._stored  # noqa: SLF001

    def counted(rows: list[tuple[Any, ...]], *known: Any) -> list[StoredEvent]:
        sizes.append(sum(len(row[4]) for row in rows))
        return stored(rows, *known)

    monkeypatch.setattr(events, "_stored", counted)
    found = await log.read_pages(pages(log, STREAMS[:20], bytes_max=32 << 10))
    assert [len(some) for some in found] == [1] * 20
    assert max(sizes) <= 200_000
    await log.close()


async def test_a_stream_with_more_bytes_than_its_page_may_have_ends_there(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    await log.append(append(event("a", b"x" * 900), event("a", b"y" * 900), event("b", b"z")))
    await log.close()
    log = await opened(tmp_path)
    await as_each(log, pages(log, ["a", "b"], bytes_max=1_000))
    await log.close()
