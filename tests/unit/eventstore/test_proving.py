"""After a kill the newest events are proven behind the opening: nothing unproven is served or built upon."""

import functools
import random
from pathlib import Path

import pytest

from huahuo.eventstore.care.verify import verify
from huahuo.eventstore.core import log as log_module
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite import proving
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.seq_index import Unindexed
from huahuo.eventstore.sqlite.store import SqliteStore
from huahuo.eventstore.sqlite.tail_check import TAIL_EVENTS
from huahuo.eventstore.sqlite.view import SqliteView
from tests.support.worlds.logs import append, event, read_joined
from tests.support.worlds.sqlite_logs import as_killed, opened, sql, told

STREAMS = ("user/1", "user/2", "mailbox/1", "group/a")
LARGE = b'"%s"' % (b"x" * 20_000)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_INDEXED_AT_ONCE", 7)
    monkeypatch.setattr(proving, "STRETCH_EVENTS", 3)


async def killed_with(directory: Path, *events: NewEvent, newest: int = 0) -> Path:
    """A log of `events`, and of `newest` more in stream `tail`, whose writer was killed."""
    log = await opened(directory / "log")
    await log.append(Append(ts_ms=0, events=events))
    for _ in range(0, newest, 100):
        await log.append(Append(ts_ms=0, events=(event("tail"),) * 100))
    killed = as_killed(directory / "log", directory / "killed")
    await log.close()
    return killed


def store_of(log: SqliteLog) -> SqliteStore:
    store = log.store
    assert isinstance(store, SqliteStore)
    return store


async def write_some(log: SqliteLog, rng: random.Random, written: dict[str, list[bytes]]) -> None:
    chosen = rng.choices(STREAMS, k=rng.randrange(1, 12))
    events = [NewEvent(stream, "t", b'{"n":%d}' % rng.getrandbits(60)) for stream in chosen]
    await log.append(Append(ts_ms=0, events=tuple(events)))
    for one in events:
        written[one.stream].append(one.body)


@pytest.mark.parametrize("seed", range(12))
async def test_kills_at_any_moment_of_the_proof_lose_and_change_nothing(tmp_path: Path, seed: int) -> None:
    rng, written = random.Random(seed), {stream: list[bytes]() for stream in STREAMS}
    folder = tmp_path / "0"
    log = await opened(folder)
    for kill in range(1, 7):
        for _ in range(rng.randrange(1, 12)):
            match rng.randrange(4):
                case 0 if (proof := store_of(log).proof) is not None:
                    await log.writer.between_commits(functools.partial(proof.step, rng.randrange(9)))
                case 1:
                    stream = rng.choice(STREAMS)
                    assert await told(log, stream, rng.choice((1, 3, 1000))) == written[stream]
                case 2 if rng.random() < 0.3:
                    await log.prove_newest()
                case _:
                    await write_some(log, rng, written)
        again = as_killed(folder, tmp_path / str(kill))
        await log.close()
        folder = again
        log = await opened(folder)
    for stream in STREAMS:
        assert await told(log, stream, 5) == written[stream]
    assert log.corruption.sentence() is None
    await log.close()
    assert sql(folder, "SELECT count(*) FROM seq_index") == sql(folder, "SELECT count(*) FROM event")
    view = await SqliteView.open(folder)
    await verify(view, view.path)
    await view.close()


async def test_an_opening_after_a_kill_leaves_the_proof_for_later(tmp_path: Path) -> None:
    log = await opened(await killed_with(tmp_path, *(event("a"),) * 50))
    assert store_of(log).proof is not None
    await log.prove_newest()
    assert store_of(log).proof is None
    assert store_of(log).unindexed_count == 0
    await log.close()


async def test_a_stream_takes_events_once_its_newest_are_proven_and_others_are_left(tmp_path: Path) -> None:
    killed = await killed_with(tmp_path, *(event("a"), event("b")) * 5, *(event("c"),) * 50)
    log = await opened(killed)
    await log.append(append(event("b")))
    assert log.head("b").link
    assert store_of(log).proof is not None, "what `b` stands on is enough"
    assert await told(log, "b", 1) == [b"{}"] * 6
    assert await told(log, "c", 9) == [b"{}"] * 50
    await log.close()


def spoil(directory: Path) -> None:
    """Change the body of the first event of stream `a`."""
    sql(directory, "UPDATE event SET body = x'5b5d' WHERE position = 1")


async def test_a_damaged_event_is_refused_before_it_was_its_turn(tmp_path: Path) -> None:
    killed = await killed_with(tmp_path, event("a"), event("b"), newest=TAIL_EVENTS)
    spoil(killed)
    log = await opened(killed)
    with pytest.raises(Corrupt):
        await read_joined(log, "a", 0, events_max=9)
    assert await told(log, "b", 9) == [b"{}"]
    await log.close()


async def test_damage_found_behind_the_opening_is_told_and_the_other_streams_go_on(tmp_path: Path) -> None:
    killed = await killed_with(tmp_path, event("a"), event("b"), newest=TAIL_EVENTS)
    spoil(killed)
    log = await opened(killed)
    assert await log.probe() is None
    await log.prove_newest()
    assert "stream a" in (await log.probe() or "")
    with pytest.raises(Corrupt):
        await log.read("a", 0, events_max=9)
    await log.append(append(event("b")))
    assert await told(log, "b", 9) == [b"{}"] * 2
    await log.close()


def tear(directory: Path) -> None:
    """Damage the pages that hold the rest of a large body."""
    sql(directory, "PRAGMA wal_checkpoint(TRUNCATE)")
    file = directory / DATABASE
    data = bytearray(file.read_bytes())
    page_bytes = int.from_bytes(data[16:18], "big")
    for start in range(0, len(data), page_bytes):
        if data[start + 8 : start + page_bytes] == b"x" * (page_bytes - 8):
            data[start : start + 4] = b"\xff" * 4
    file.write_bytes(data)


@pytest.fixture
async def torn(tmp_path: Path) -> SqliteLog:
    """Stream `a` is written before the damaged page, `b` stands on it."""
    large = event("b", LARGE)
    killed = await killed_with(tmp_path, *(event("a"),) * 3, large, event("b"), newest=TAIL_EVENTS)
    tear(killed)
    return await opened(killed)


async def test_a_page_that_cannot_be_read_ends_the_proof_and_is_told(torn: SqliteLog) -> None:
    await torn.prove_newest()
    assert "the newest events" in (await torn.probe() or "")
    await torn.close()


async def test_behind_a_page_that_cannot_be_read_proven_and_new_streams_go_on(torn: SqliteLog) -> None:
    await torn.append(append(event("a"), event("new")))
    with pytest.raises(Corrupt, match="newest events are not proven"):
        await torn.append(append(event("b")))
    await torn.append(append(event("a"), event("new")))
    assert await told(torn, "a", 2) == [b"{}"] * 5
    assert await told(torn, "new", 2) == [b"{}"] * 2
    await torn.close()


async def test_what_stands_behind_a_page_that_cannot_be_read_is_there_at_the_next_opening(
    torn: SqliteLog, tmp_path: Path
) -> None:
    await torn.append(append(event("a")))
    await torn.close()
    again = await opened(tmp_path / "killed")
    await again.prove_newest()
    assert await told(again, "a", 2) == [b"{}"] * 4
    assert again.head("tail").seq == TAIL_EVENTS
    await again.close()


def test_only_streams_whose_checksums_are_known_move() -> None:
    held = Unindexed(events_max=10)
    held.replace([(1, 1, 1), (2, 1, 2), (1, 2, 3)], 3)
    held.note_crc(2, 2, 22)
    held.note_crc(1, 1, 11)
    moving = held.all()
    assert [(piece.stream, list(piece.crcs)) for piece in moving.pieces] == [(2, [22])]
    assert moving.mark is None
    held.moved(moving)
    assert (held.count, held.unsummed) == (2, 1)
    assert held.split(1, 0, 2, 9)[1:3] == ([1, 3], ())
    assert list(held.split(1, 0, 1, 9)[2]) == [11]
    held.note_crc(1, 3, 13)
    assert held.all().mark == 3
