"""The directory of a single service can become the first replica of an ordered log."""

from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.sqlite.log import (
    SqliteLog,
    larger_event,
)
from tests.support.worlds.logs import MASTER_KEY, append, event

pytestmark = pytest.mark.anyio


async def single(directory: Path, *bodies: bytes) -> tuple[str, bytes]:
    log = await SqliteLog.open(directory, ambient=FakeAmbient(1), master_key=MASTER_KEY, build="t")
    for body in bodies:
        await log.append(append(event("s", body)))
    found = log.log_id, log.writer.place.chain
    await log.close()
    return found


async def test_the_first_event_that_is_too_large_for_a_cluster_is_named(tmp_path: Path) -> None:
    await single(tmp_path, b"small", b"x" * 1001, b"y" * 2000)
    assert larger_event(tmp_path, 1000) == (2, "s", "happened", 1001)
    assert larger_event(tmp_path, 2000) is None
