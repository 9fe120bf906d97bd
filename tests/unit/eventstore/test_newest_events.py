"""After a kill an opening proves the newest events: one that nothing proves keeps the log closed."""

from pathlib import Path

import pytest

from huahuo.eventstore.errors import Corrupt, Damaged
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.initial_state import TAIL_EVENTS
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import append, event, read_joined
from tests.support.worlds.sqlite_logs import as_killed, opened, sql, told

LARGE = b'"%s"' % (b"x" * 20_000)
MANY = TAIL_EVENTS + 100
"""More than each opening compares with the chain."""


async def killed_with(directory: Path, *events: NewEvent, newest: int = MANY) -> Path:
    """A log of `events`, and of `newest` more in stream `tail`, whose writer was killed."""
    log = await opened(directory / "log")
    await log.append(Append(ts_ms=0, events=events))
    for _ in range(0, newest, 100):
        await log.append(Append(ts_ms=0, events=(event("tail"),) * 100))
    killed = as_killed(directory / "log", directory / "killed")
    await log.close()
    return killed


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
async def three(tmp_path: Path) -> Path:
    """Ten events each in `a`, `b` and `c`, whose writer was killed."""
    return await killed_with(tmp_path, *(event(stream) for stream in "abc" for _ in range(10)))


@pytest.mark.parametrize("change", [
    "seq = 9 WHERE position = 1",
    "stream = (SELECT id FROM stream WHERE name = 'b') WHERE position = 7",
])  # fmt: skip
async def test_an_event_whose_place_was_changed_keeps_the_log_closed(three: Path, change: str) -> None:
    sql(three, f"UPDATE event SET {change}")
    with pytest.raises(Damaged, match="nothing proves to which place"):
        await opened(three)


async def test_a_damaged_event_is_told_at_the_opening_and_other_streams_go_on(three: Path) -> None:
    sql(three, "UPDATE event SET body = x'5b5d' WHERE position = 1")
    log = await opened(three)
    with pytest.raises(Corrupt):
        await read_joined(log, "a", 0, events_max=9)
    await log.append(append(event("b")))
    assert await told(log, "b", 9) == [b"{}"] * 11
    await log.close()


async def test_a_page_of_a_large_body_that_is_lost_keeps_the_log_closed(tmp_path: Path) -> None:
    killed = await killed_with(tmp_path, *(event("a"),) * 3, event("b", LARGE), event("b"))
    tear(killed)
    with pytest.raises(Damaged):
        await opened(killed)
