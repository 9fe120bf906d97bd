"""After a kill an opening proves the newest events: one that nothing proves keeps the log closed."""

from pathlib import Path

import pytest

from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.initial_state import TAIL_EVENTS
from tests.support.worlds.logs import append, event, read_joined
from tests.support.worlds.sqlite_logs import as_killed, opened, sql, told

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


@pytest.fixture
async def three(tmp_path: Path) -> Path:
    """Ten events each in `a`, `b` and `c`, whose writer was killed."""
    return await killed_with(tmp_path, *(event(stream) for stream in "abc" for _ in range(10)))


async def test_a_damaged_event_is_told_at_the_opening_and_other_streams_go_on(three: Path) -> None:
    sql(three, "UPDATE event SET body = x'5b5d' WHERE position = 1")
    log = await opened(three)
    with pytest.raises(Corrupt):
        await read_joined(log, "a", 0, events_max=9)
    await log.append(append(event("b")))
    assert await told(log, "b", 9) == [b"{}"] * 11
    await log.close()
