"""The index by (stream, seq), which lags behind the log: it neither hides an event nor shows one twice."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.pruning import CompactionPolicy, compact
from huahuo.eventstore.care.verify import verify
from huahuo.eventstore.errors import Damaged, Unavailable
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite import seq_index, unindexed
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.store import SqliteStore
from huahuo.eventstore.sqlite.unindexed import Unindexed
from huahuo.eventstore.sqlite.view import SqliteView
from tests.support.worlds.logs import append, event, read_joined
from tests.support.worlds.sqlite_logs import opened, sql, told

STREAMS = ("user/1", "user/2", "mailbox/1", "group/a")
PRUNE = CompactionPolicy(types=frozenset({"t"}), before_ms=1, keep=3)


async def fill(log: SqliteLog, rng: random.Random, written: dict[str, list[bytes]], appends: int) -> None:
    for _ in range(appends):
        events = []
        for _ in range(rng.randrange(1, 12)):
            stream = rng.choice(STREAMS)
            body = b'{"n":%d}' % rng.getrandbits(60)
            written[stream].append(body)
            events.append(NewEvent(stream, "t", body))
        await log.append(Append(ts_ms=0, events=tuple(events)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so small that a short log moves events into the table many times."""
    monkeypatch.setattr(unindexed, "UNINDEXED_MAX", 40)
    monkeypatch.setattr(unindexed, "SLICE_MIN", 8)


@pytest.mark.usefixtures("small")
async def test_every_event_is_read_wherever_the_index_stands(tmp_path: Path) -> None:
    rng, written = random.Random(7), {stream: list[bytes]() for stream in STREAMS}
    log = await opened(tmp_path)
    store = log.store
    assert isinstance(store, SqliteStore)
    partly = 0
    for _ in range(30):
        await fill(log, rng, written, 3)
        held = store.unindexed.count
        assert held <= 2 * 40 + 40
        partly += 0 < held < log.position
        for stream in STREAMS:
            assert await told(log, stream, rng.choice((1, 7, 1000))) == written[stream]
        view = await SqliteView.open(tmp_path)  # as another process in parallel with the writer
        for stream in STREAMS:
            head, seen = log.head(stream), view.head(stream)
            assert (seen.first, seen.seq) == (head.first, head.seq)
            assert await told(view, stream, 13) == written[stream]
        await view.close()
    assert partly > 15
    await log.close()


@pytest.mark.usefixtures("small")
async def test_a_view_that_looked_earlier_still_finds_what_was_indexed_since(tmp_path: Path) -> None:
    rng, written = random.Random(8), {stream: list[bytes]() for stream in STREAMS}
    log = await opened(tmp_path)
    await fill(log, rng, written, 9)
    view = await SqliteView.open(tmp_path)
    before = {stream: list(bodies) for stream, bodies in written.items()}
    await fill(log, rng, written, 60)
    for stream in STREAMS:
        assert await told(view, stream, 13) == before[stream]
    assert await view.refresh()
    for stream in STREAMS:
        assert await told(view, stream, 13) == written[stream]
    await view.close()
    await log.close()


async def test_checksums_are_forgotten_at_a_bound_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seq_index, "_STREAMS_MAX", 3)
    rng, written = random.Random(11), {stream: list[bytes]() for stream in STREAMS}
    log = await opened(tmp_path)
    await fill(log, rng, written, 40)
    large = [(f"mailbox/{n % 300}", b'{"n":%d}' % n) for n in range(900)]
    await log.append(append(*(event(stream, body) for stream, body in large)))
    await log.append(append(*(event(stream, body) for stream, body in large)))
    for stream in STREAMS:
        assert (await told(log, stream, 9))[: len(written[stream])] == written[stream]
    assert log.corruption.sentence() is None
    await log.close()
    view = await SqliteView.open(tmp_path)
    await verify(view, view.path)
    await view.close()


@pytest.mark.usefixtures("small")
async def test_after_a_failed_commit_the_index_stands_where_the_disk_does(tmp_path: Path) -> None:
    rng, written = random.Random(10), {stream: list[bytes]() for stream in STREAMS}
    log = await opened(tmp_path)
    store = log.store
    assert isinstance(store, SqliteStore)
    for _ in range(12):
        await fill(log, rng, written, 5)
        store.connection.close()  # the next commit fails, and a new connection is made
        with pytest.raises(Unavailable):
            await log.append(append(event("user/1")))
        for stream in STREAMS:
            assert await told(log, stream, 1000) == written[stream]
    await log.close()


_ONE = "stream = (SELECT id FROM stream WHERE name = 'user/2') AND seq ="


@pytest.mark.parametrize(
    "damage",
    [
        f"DELETE FROM seq_index WHERE {_ONE} (SELECT min(seq) FROM seq_index WHERE {_ONE[:-10]})",
        f"DELETE FROM seq_index WHERE {_ONE} (SELECT max(seq) FROM seq_index WHERE {_ONE[:-10]})",
        f"UPDATE seq_index SET position = 3 WHERE {_ONE} (SELECT min(seq) FROM seq_index WHERE {_ONE[:-10]})",
        "INSERT INTO seq_index SELECT stream, max(seq) + 1, 1, 0 FROM seq_index GROUP BY stream LIMIT 1",
    ],
    ids=["first", "last", "elsewhere", "too many"],
)
@pytest.mark.usefixtures("small")
async def test_what_the_index_lost_or_made_up_is_found_by_verification(tmp_path: Path, damage: str) -> None:
    rng, written = random.Random(14), {stream: list[bytes]() for stream in STREAMS}
    log = await opened(tmp_path)
    await fill(log, rng, written, 20)
    view = await SqliteView.open(tmp_path)
    await verify(view, view.path)
    await view.close()
    await compact(log, PRUNE, FakeAmbient(1), "test")
    await log.close()
    view = await SqliteView.open(tmp_path)
    await verify(view, view.path)
    await view.close()
    sql(tmp_path, damage)
    view = await SqliteView.open(tmp_path)
    with pytest.raises(Damaged, match="index by stream and seq"):
        await verify(view, view.path)
    await view.close()


async def test_what_was_pruned_since_a_view_looked_hides_nothing_that_is_left(tmp_path: Path) -> None:
    """The first events in the view's memory are gone; the events after them are not."""
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, events=(NewEvent("a", "t", b"{}"),) * 500))
    view = await SqliteView.open(tmp_path)
    assert await compact(log, PRUNE, FakeAmbient(1), "test") == 497
    assert [e.seq for e in await view.read("a", 0, events_max=100)] == [498, 499, 500]
    joined = await read_joined(view, "a", 0, events_max=100)
    assert joined is not None
    assert (joined.first, joined.count) == (498, 3)
    await view.close()
    await log.close()


# `Unindexed`, the part in memory


@given(st.data())
def test_what_moves_is_exactly_what_was_held(data: st.DataObject) -> None:
    """Against a model: each (stream, seq) is in the table or in memory, never both, with its position."""
    held, table = Unindexed(events_max=data.draw(st.integers(1, 400))), dict[tuple[int, int], int]()
    truth, seqs, position, marked = dict[tuple[int, int], int](), dict[int, int](), 0, 0
    for _ in range(data.draw(st.integers(1, 12))):
        size = data.draw(st.integers(1, 300))
        streams = data.draw(st.integers(1, 40))
        moving = held.due(size)
        for stream, first, positions, crcs in moving.pieces:
            for seq, (at, crc) in enumerate(zip(positions, crcs, strict=True), first):
                assert (stream, seq) not in table
                assert crc == 7 * at
                table[stream, seq] = at
        marked = marked if moving.mark is None else moving.mark
        held.moved(moving)
        rows = []
        for number in range(size):
            position += 1
            stream = number * number % streams
            seqs[stream] = seqs.get(stream, 0) + 1
            rows.append((stream, seqs[stream], position, 7 * position))
            truth[stream, seqs[stream]] = position
        held.add(rows)
        assert all(key in table for key, at in truth.items() if at <= marked)
        for stream, seq in seqs.items():
            indexed, positions, crcs, _ = held.split(stream, 0, seq, 1 << 20)
            assert list(crcs) == [7 * at for at in positions]
            found = [table[stream, one] for one in range(1, indexed + 1)]
            assert [*found, *positions] == [truth[stream, one] for one in range(1, seq + 1)]
            assert (stream, indexed + 1) not in table
        assert held.count == len(truth) - len(table)


def test_a_round_ends_however_many_events_come_meanwhile() -> None:
    held, position, marks = Unindexed(events_max=1000), 0, list[int]()
    for _ in range(2000):
        moving = held.due(10)
        held.moved(moving)
        marks += [] if moving.mark is None else [moving.mark]
        held.add([(n, position // 10 + 1, position + n + 1, 0) for n in range(10)])
        position += 10
        assert held.count <= 2 * 1000 + 10
    assert len(marks) > 8
    assert marks == sorted(marks)


async def test_where_all_of_the_table_was_pruned_the_newest_events_are_still_read(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    await log.append(append(*[event("a")] * 50))
    await log.close()
    log = await opened(tmp_path)
    await log.append(append(*[event("a")] * 5))
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection, connection:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(
            "INSERT INTO pruned SELECT position, stream, seq, chain, crc FROM event"
            " JOIN seq_index USING (position, stream, seq) WHERE seq <= 50"
        )
        connection.execute("DELETE FROM seq_index WHERE seq <= 50")
        connection.execute("DELETE FROM event WHERE seq <= 50")
    assert [e.seq for e in await log.read("a", 0, events_max=3)] == [51, 52, 53]
    joined = await read_joined(log, "a", 0, events_max=3)
    assert joined is not None
    assert (joined.first, joined.count) == (51, 3)
    await log.close()
