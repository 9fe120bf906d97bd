"""A live list against a plain dict: after each catching up, a reader's rows are the first rows of one commit.

Readers stand at any cursor, grow and shrink their windows, and come back over lost notes, dropped parts and
openings of the log.
"""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huahuo.eventstore.core import row_changes
from huahuo.eventstore.model import Append, RowDrop, RowPut, RowRange
from huahuo.eventstore.port import Log
from huahuo.replay.list_window import Cursor, ListPlace, ListRange, ListRow, applied, asked, window
from tests.support.proofs import examples
from tests.support.worlds.logs import ENGINES, event, looped, make_engine, opened

PARTS = ("p", "q", "系")
KEYS = [f"{n:02d}".encode() for n in range(12)]


class Model:
    """The rows of the table."""

    def __init__(self) -> None:
        self.rows: dict[ListPlace, bytes] = {}

    def first(self, of: ListRange) -> list[ListRow]:
        parts = {part.encode() for part in of.parts}
        rows = [ListRow(at, value) for at, value in self.rows.items() if at.part in parts and of.holds(at)]
        return sorted(rows, reverse=of.descending)[: of.limit]


class Reader:
    """A client of one list."""

    def __init__(self, of: ListRange) -> None:
        self.of = of
        self.rows: list[ListRow] = []
        self.cursor: Cursor | None = None

    async def catch_up(self, log: Log, model: Model) -> bool:
        """Returns whether it was a resume."""
        change = window(self.of, self.cursor, await log.rows_at_once(asked(self.of, self.cursor)))
        self.rows = applied(self.of, self.rows, change)
        self.cursor = change.cursor
        assert self.rows == model.first(self.of)
        assert len(change.put) <= self.of.limit
        assert change.cursor.position == log.position
        return not change.reset


def any_range(chance: random.Random) -> ListRange:
    low, high = sorted(chance.sample(KEYS, 2))
    return ListRange(
        "t",
        tuple(chance.sample(PARTS, chance.randint(1, 3))),
        chance.randint(1, 6),
        low if chance.random() < 0.4 else b"",
        high if chance.random() < 0.4 else None,
        chance.random() < 0.5,
    )


async def change_rows(log: Log, model: Model, chance: random.Random) -> None:
    """One commit."""
    rows: list[RowPut | RowDrop] = []
    for _ in range(chance.randint(1, 4)):
        part, key, kind = chance.choice(PARTS), chance.choice(KEYS), chance.random()
        if kind < 0.6:
            value = str(chance.randint(0, 9)).encode()
            rows.append(RowPut("t", part, key, value))
            model.rows[ListPlace(key, part.encode())] = value
        elif kind < 0.97:
            rows.append(RowDrop("t", part, key))
            model.rows.pop(ListPlace(key, part.encode()), None)
        else:
            rows.append(RowDrop("t", part))
            for at in [one for one in model.rows if one.part == part.encode()]:
                del model.rows[at]
    events = (event("a"),) if chance.random() < 0.95 else ()
    await log.append(Append(ts_ms=1, events=events, rows=tuple(rows)))


async def forget(log: Log, position: int) -> None:
    """Drop the notes up to a position, as a trim does."""
    drops: list[RowPut | RowDrop] = []
    for part in PARTS:
        table = row_changes.CHANGES + "t"
        [found] = (await log.rows_at_once([RowRange(table, part, 1000)])).rows
        drops += [RowDrop(table, part, key) for key, _ in found if row_changes.noted(key)[0] <= position]
    await log.append(Append(ts_ms=1, rows=(row_changes.horizon("t", position), *drops)))


async def live(log: Log, chance: random.Random, steps: int) -> int:
    """Returns how many resumes there were."""
    model, resumes = Model(), 0
    await change_rows(log, model, chance)
    await log.append(Append(ts_ms=1, events=(event("a"),), rows=(row_changes.track("t"),)))
    readers = [Reader(any_range(chance)) for _ in range(3)]
    for _ in range(steps):
        kind = chance.random()
        if kind < 0.5:
            await change_rows(log, model, chance)
        elif kind < 0.9:
            resumes += await chance.choice(readers).catch_up(log, model)
        elif kind < 0.97:
            reader = chance.choice(readers)
            limit = chance.randint(1, 6)
            was, reader.of = (
                reader.of,
                ListRange("t", reader.of.parts, limit, reader.of.low, reader.of.high, reader.of.descending),
            )
            assert was.name == reader.of.name
        else:
            await forget(log, chance.randint(0, log.position))
    for reader in readers:
        resumes += await reader.catch_up(log, model)
    return resumes


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=examples(400), deadline=None)
@looped
async def test_a_readers_rows_are_the_first_rows_of_one_commit(seed: int) -> None:
    async with opened(make_engine("memory", Path())) as log:
        await live(log, random.Random(seed), 40)


@pytest.mark.parametrize("name", ENGINES)
async def test_readers_resume_on_each_engine(name: str, tmp_path: Path) -> None:
    async with opened(make_engine(name, tmp_path)) as log:
        assert await live(log, random.Random(7), 400) > 50


async def test_a_reader_far_behind_gets_one_window_and_not_each_step(tmp_path: Path) -> None:
    async with opened(make_engine("memory", tmp_path)) as log:
        model, reader = Model(), Reader(ListRange("t", ("p",), 3))
        await log.append(Append(ts_ms=1, events=(event("a"),), rows=(row_changes.track("t"),)))
        await reader.catch_up(log, model)
        for n in range(50):
            key = KEYS[n % len(KEYS)]
            model.rows[ListPlace(key, b"p")] = b"1"
            await log.append(Append(ts_ms=1, events=(event("a"),), rows=(RowPut("t", "p", key, b"1"),)))
        assert not await reader.catch_up(log, model)


async def test_a_list_new_over_old_rows_and_a_cursor_of_the_future_are_read_anew(tmp_path: Path) -> None:
    async with opened(make_engine("memory", tmp_path)) as log:
        model, reader = Model(), Reader(ListRange("t", ("p",), 3))
        model.rows[ListPlace(b"k", b"p")] = b"1"
        await log.append(Append(ts_ms=1, events=(event("a"),), rows=(RowPut("t", "p", b"k", b"1"),)))
        await reader.catch_up(log, model)
        await log.append(Append(ts_ms=1, events=(event("a"),), rows=(row_changes.track("t"),)))
        assert not await reader.catch_up(log, model), "nothing is known of what came before"
        assert await reader.catch_up(log, model)
        reader.cursor = Cursor(99, None)
        assert not await reader.catch_up(log, model)
