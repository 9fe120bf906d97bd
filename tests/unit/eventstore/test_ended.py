"""Ended streams on the disk: the care of a log knows them, and no answer depends on the marks."""

from pathlib import Path

import pytest

from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Append
from tests.support.worlds.logs import append, event, looped
from tests.support.worlds.sqlite_logs import opened, sql


async def filled(directory: Path) -> None:
    """Three streams with two events each; `b` and `c` ended."""
    log = await opened(directory)
    await log.append(append(*(event(stream) for stream in "abcabc")))
    await log.append(Append(ts_ms=0, ended=("b", "c")))
    await log.close()


@looped
async def test_a_damaged_name_is_refused_and_noted_and_never_counts_as_a_new_stream(tmp_path: Path) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    sql(tmp_path, "UPDATE stream SET first = 7 WHERE name = 'b'")
    with pytest.raises(Corrupt, match="name of stream"):
        await log.append(append(event("b")))
    assert log.head("b").seq == 0
    assert "b" in (log.corruption.sentence() or "")
    assert log.head("c").seq == 2
    await log.close()
