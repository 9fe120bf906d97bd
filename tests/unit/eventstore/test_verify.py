"""Checking a whole SQLite log: each change to the file is found, with its position."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from huahuo.eventstore.audit.proof import check_against, checkpoint_of
from huahuo.eventstore.care import verify as verifying
from huahuo.eventstore.care.verify import check_log, verify
from huahuo.eventstore.core.chain import GENESIS, relink
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.directory_lock import left_of
from huahuo.eventstore.sqlite.names import read_naming
from huahuo.eventstore.sqlite.view import SqliteView
from tests.support.worlds.logs import SqliteEngine, append, event, looped, opened

EVENTS = 40
type Change = str | Callable[[sqlite3.Connection], object]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A closed log of `EVENTS` events in two streams."""
    engine = SqliteEngine(tmp_path)

    @looped
    async def fill() -> None:
        async with opened(engine) as log:
            for n in range(EVENTS // 2):
                await log.append(
                    append(event("user/1", b'{"n":%d}' % n, type="check_progress"), event("user/2"))
                )

    fill()
    return engine.directory


def changed(directory: Path, change: Change) -> Path:
    """Change the file, as an attacker with write access could."""
    with closing(sqlite3.connect(directory / "log.db", isolation_level=None)) as connection:
        if isinstance(change, str):
            assert connection.execute(change).rowcount > 0
        else:
            change(connection)
    return directory


async def found(directory: Path, processes: int | None = None) -> Damaged:
    view = await SqliteView.open(directory)
    try:
        with pytest.raises(Damaged) as caught:
            await verify(view, view.path, left=left_of(directory), processes=processes)
        return caught.value
    finally:
        await view.close()


@pytest.mark.parametrize(
    ("change", "position"),
    [
        ("UPDATE event SET body = x'7b7d' WHERE position = 7", 7),
        ("UPDATE event SET principal = 'user/9' WHERE position = 7", 7),
        ("UPDATE event SET ts = ts + 1 WHERE position = 7", 7),
        ("DELETE FROM event WHERE position = 7", 7),
        ("DELETE FROM event WHERE position BETWEEN 7 AND 20", 7),
        ("DELETE FROM event WHERE position > 37", 38),
        ("DELETE FROM name WHERE text = 'happened'", 2),
    ],
)
def test_a_rewritten_or_dropped_event_is_found_at_its_position(
    directory: Path, change: str, position: int
) -> None:
    @looped
    async def check() -> None:
        error = await found(changed(directory, change))
        assert error.position == position

    check()


async def test_history_with_a_new_chain_of_its_own_is_found_by_the_checkpoint(
    directory: Path,
) -> None:
    view = await SqliteView.open(directory)
    signed = await checkpoint_of(view)
    events: list[StoredEvent] = await view.read("log", 0, events_max=EVENTS)
    await view.close()

    def rewrite(connection: sqlite3.Connection) -> None:
        chain = GENESIS
        for one in events:
            body = b'{"n":"forged"}' if one.position == 7 else one.body
            chain = relink(chain, msgspec.structs.replace(one, body=body))
            connection.execute(
                "UPDATE event SET body = ?, chain = ? WHERE position = ?", (body, chain, one.position)
            )
        connection.execute("DELETE FROM seq_index")
        seq_index.put_mark(connection, 0)
        seq_index.catch_up(connection, read_naming(connection))

    changed(directory, rewrite)
    view = await SqliteView.open(directory)
    await verify(view, view.path)  # the chain alone does not show it
    with pytest.raises(Damaged, match="not the one that was signed"):
        await check_against(view, signed)
    await view.close()
    assert (await found(directory)).position == EVENTS  # the note of the clean close shows it too


def test_several_processes_find_the_first_damage(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "PART_EVENTS_MIN", 10)
    changed(directory, "UPDATE event SET seq = -seq WHERE position = 33")
    changed(directory, "UPDATE event SET body = x'' WHERE position = 12")
    with pytest.raises(Damaged) as caught:
        check_log(directory / "log.db", 0, EVENTS, processes=2)
    assert caught.value.position == 12
