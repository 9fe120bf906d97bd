"""The contract of tracked tables: what changed after a position is known, in the commit of the change."""

from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.change_notes import ChangeNotes
from huahuo.eventstore.core import row_changes
from huahuo.eventstore.model import Append, RowDrop, RowPut, RowRange
from huahuo.eventstore.port import Log
from tests.support.worlds.logs import ENGINES, Engine, event, make_engine, opened


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return make_engine(request.param, tmp_path)


async def write(log: Log, *rows: RowPut | RowDrop) -> None:
    await log.append(Append(ts_ms=1, events=(event("a"),), rows=rows))


async def noted(log: Log, part: str, after: int) -> list[tuple[int, bytes]]:
    wanted = RowRange(row_changes.CHANGES + "t", part, 100, row_changes.after(after))
    [found] = (await log.rows_at_once([wanted])).rows
    return [row_changes.noted(key) for key, _ in found]


async def test_changes_of_a_tracked_table_are_noted_with_the_position_of_their_append(engine: Engine) -> None:
    async with opened(engine) as log:
        await write(log, RowPut("t", "p", b"before", b""))
        await write(log, row_changes.track("t"))
        assert log.horizons == {"t": 2}
        heard: list[object] = []
        log.listen_to_rows(heard.append)
        await write(log, RowPut("t", "p", b"k", b"1"), RowPut("other", "p", b"k", b""))
        await write(log, RowPut("t", "q", b"k", b"1"), RowDrop("t", "p", b"before"))
        assert heard == [{("t", "p")}, {("t", "p"), ("t", "q")}]
    async with opened(engine) as log:
        assert await noted(log, "p", 2) == [(3, b"k"), (4, b"before")]
        assert await noted(log, "p", 3) == [(4, b"before")]
        assert await noted(log, "q", 0) == [(4, b"k")]
        assert log.horizons == {"t": 2}


async def test_a_dropped_part_moves_the_horizon_and_takes_its_notes_along(engine: Engine) -> None:
    async with opened(engine) as log:
        await write(log, row_changes.track("t"))
        await write(log, RowPut("t", "p", b"k", b"1"))
        await write(log, RowDrop("t", "p"))
        assert log.horizons == {"t": 3}
        assert await noted(log, "p", 0) == []


async def test_rows_without_an_event_move_the_horizon_behind_all_who_read_before(engine: Engine) -> None:
    async with opened(engine) as log:
        await write(log, row_changes.track("t"))
        await log.append(Append(ts_ms=1, rows=(RowPut("t", "p", b"k", b""),)))
        assert log.horizons == {"t": 2}
        assert await noted(log, "p", 0) == []
        await write(log, RowPut("t", "p", b"k", b""))
        assert await noted(log, "p", 1) == [(2, b"k")]


async def test_ranges_read_at_once_are_those_of_one_commit(engine: Engine) -> None:
    async with opened(engine) as log:
        await write(log, *(RowPut("t", "p", key, key) for key in (b"a", b"b", b"c", b"d")))
        found = await log.rows_at_once(
            [
                RowRange("t", "p", 2),
                RowRange("t", "p", 2, descending=True),
                RowRange("t", "p", 9, b"b", b"c"),
                RowRange("t", "none", 9),
            ]
        )
        assert found.position == log.position == 1
        keys = [[key for key, _ in rows] for rows in found.rows]
        assert keys == [[b"a", b"b"], [b"d", b"c"], [b"b", b"c"], []]


async def test_notes_that_are_old_go_and_the_horizon_moves_behind_them(engine: Engine) -> None:
    ambient = FakeAmbient()
    day_ms, now_ms = 86_400_000, ambient.now_ms()
    async with opened(engine) as log:
        await write(log, row_changes.track("t"))
        for number, (age_days, part) in enumerate([(9, "p"), (8, "q"), (8, "p"), (6, "p"), (1, "q")]):
            put = RowPut("t", part, b"k%d" % number, b"")
            ts_ms = now_ms - age_days * day_ms
            await log.append(Append(ts_ms=ts_ms, events=(event("a"),), rows=(put,)))
        notes = ChangeNotes(log, ambient, 7 * 86_400)
        while await notes.step():
            pass
        assert log.horizons == {"t": 4}
        assert await noted(log, "p", 0) == [(5, b"k3")]
        assert await noted(log, "q", 0) == [(6, b"k4")]
        assert not await notes.step()
        await notes.drop_all()
        assert log.horizons == {"t": 6}
        assert await noted(log, "p", 0) == await noted(log, "q", 0) == []


async def test_the_parts_of_a_table_are_named_in_order(engine: Engine) -> None:
    async with opened(engine) as log:
        await write(log, *(RowPut("t", part, b"%d" % n, b"") for part in ("b", "", "a") for n in (1, 2)))
        assert await log.parts("t", after=None, limit=9) == ["", "a", "b"]
        assert await log.parts("t", after="", limit=1) == ["a"]
        assert await log.parts("other", after=None, limit=9) == []
