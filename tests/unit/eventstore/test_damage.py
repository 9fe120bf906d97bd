"""Reading a damaged row raises a typed error with its place, and everything else can still be read."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import LOG_STREAM, Append, CommandKey, CommandRecord, Keyframe, NewEvent, RowPut
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import read_joined
from tests.support.worlds.sqlite_logs import opened


async def filled(directory: Path) -> None:
    log = await opened(directory)
    for n in range(3):
        events = [NewEvent(stream, "t", b'{"%s":%d}' % (stream.encode(), n)) for stream in ("a", "b")]
        await log.append(
            Append(
                ts_ms=0,
                events=tuple(events),
                rows=(RowPut("table", "part", b"%d" % n, b"value %d" % n),),
                command=CommandRecord(CommandKey("user/1", "c", f"{n}"), b"f", b'{"n":%d}' % n),
            )
        )
        await log.put_keyframe(Keyframe("a", "fold", "f", n + 1, b"state %d" % n))
    await log.append(Append(ts_ms=0, events=(NewEvent("c", "t", b"{}"),) * 1000))
    await log.close()


def changed(directory: Path, statement: str) -> Path:
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount == 1
    return directory


async def test_a_body_of_another_event_is_refused_at_every_start(tmp_path: Path) -> None:
    await filled(tmp_path)
    changed(tmp_path, "UPDATE event SET body = CAST('{\"a\":77}' AS BLOB) WHERE position = 3")
    for _ in range(2):
        log = await opened(tmp_path)
        with pytest.raises(Corrupt, match="stream a") as caught:
            await log.read("a", 0, events_max=9)
        assert caught.value.position == 3
        with pytest.raises(Corrupt, match="stream a"):
            await read_joined(log, "a", 0, events_max=9)
        assert len(await log.read("b", 0, events_max=9)) == 3, "the link behind it is whole"
        await log.close()


async def test_a_damaged_keyframe_counts_as_none_and_is_reported(tmp_path: Path) -> None:
    await filled(tmp_path)
    changed(tmp_path, "UPDATE keyframe SET seq = 9 WHERE seq = 3")
    changed(tmp_path, "UPDATE keyframe SET seq = 3 WHERE seq = 2")
    log = await opened(tmp_path)
    assert await log.keyframe("a", "fold", "f") is None
    assert list(log.corruption.places) == ["keyframe a fold f"]
    await log.close()


async def test_a_link_is_told_only_if_its_event_fits_the_chain(tmp_path: Path) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    places = [("a", 1), ("b", 1), ("a", 2), (LOG_STREAM, 4)]
    whole = await log.links(places)
    assert all(whole)
    await log.close()
    changed(tmp_path, "UPDATE event SET chain = zeroblob(32) WHERE position = 3")
    changed(tmp_path, "UPDATE seq_index SET position = 5 WHERE position = 2")
    log = await opened(tmp_path)
    assert await log.links(places) == [whole[0], None, None, whole[3]]
    assert sorted(log.corruption.places) == ["stream a", "stream b"]
    await log.close()
