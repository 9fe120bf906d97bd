"""Whatever column of an event or tombstone is changed: no false answer, no false head, and the log opens."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Corrupt, Lost
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.rebuild import rebuild
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.proofs import WHOLE
from tests.support.worlds.changed_columns import (
    EVENTS,
    as_it_was,
    cases,
    change,
    exchanges,
    judge,
    make,
    pairs,
)
from tests.support.worlds.logs import MASTER_KEY
from tests.support.worlds.spoilt import opened

pytestmark = pytest.mark.slow

_OPEN_TO_DOUBT = ("(stream, body)", "(stream, type)", "(stream, cause)")


def twice_damaged(directory: Path, position: int) -> None:
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        connection.execute("UPDATE event SET seq = 1000000, body = x'00' WHERE position = ?", (position,))


@pytest.mark.parametrize("rebuilt", [False, True], ids=["opened", "rebuilt"])
async def test_one_changed_column_gives_no_false_answer_and_keeps_no_log_closed(
    tmp_path: Path, rebuilt: bool
) -> None:
    truth = await make(tmp_path)
    wrong = []
    chosen = list(cases(few=2)) if WHOLE else list(cases(few=1))[rebuilt::2]
    for n, case in enumerate(chosen):
        if not rebuilt or case.left == "closed":
            verdict = await judge(tmp_path, tmp_path / str(n), truth, case, rebuilt=rebuilt)
            wrong += [(case, verdict)] if verdict.wrong else []
    assert wrong == []


async def test_a_rebuild_puts_an_event_and_a_tombstone_right(tmp_path: Path) -> None:
    await make(tmp_path)
    as_it_was(tmp_path / "closed")
    with closing(sqlite3.connect(tmp_path / "closed" / DATABASE, isolation_level=None)) as connection:
        number = "(SELECT id FROM stream WHERE name = '{}')"
        of_many = f"stream = {number.format('many')} AND seq = 4"
        connection.execute(f"UPDATE event SET stream = {number.format('other')} WHERE {of_many}")
        of_pruned = f"stream = {number.format('pruned')} AND seq = 3"
        connection.execute(f"UPDATE pruned SET seq = -7 WHERE {of_pruned}")
    rebuild(tmp_path / "closed")
    assert find_damage(tmp_path / "closed" / DATABASE) == []


async def test_a_rebuild_gives_no_seq_out_twice_although_two_columns_of_its_event_were_changed(
    tmp_path: Path,
) -> None:
    truth = await make(tmp_path)
    as_it_was(tmp_path / "closed")
    last = truth["old"][-1]
    with closing(sqlite3.connect(tmp_path / "closed" / DATABASE, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE event SET stream = 0, principal = 'x' WHERE position = ?", (last.position,)
        )
    rebuild(tmp_path / "closed")
    log = await opened(tmp_path / "closed")
    assert log.head("old").seq == last.seq
    with pytest.raises(Corrupt):
        await log.read("old", last.seq - 1, events_max=1)
    await log.close()


async def test_doctor_promises_no_rebuild_for_an_event_with_two_changes_of_which_one_took_a_name(
    tmp_path: Path,
) -> None:
    truth = await make(tmp_path)
    as_it_was(tmp_path / "closed")
    path, at = tmp_path / "closed" / DATABASE, truth["old"][1].position
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE event SET build = 77, cause = cause + 3 WHERE position = ?", (at,))
    before = [damage.can_rebuild for damage in find_damage(path) if damage.position == at]
    rebuild(tmp_path / "closed")
    assert [damage.position for damage in find_damage(path) if damage.position] == [at]
    assert before == [False]


@pytest.mark.parametrize("event", [name for name in EVENTS if name.startswith("new")])
@pytest.mark.parametrize("column", ["position", "stream", "seq", "chain"])
async def test_where_one_of_the_newest_events_belongs_is_put_right_and_told(
    tmp_path: Path, event: str, column: str
) -> None:
    truth = await make(tmp_path)
    case = next(one for one in cases() if one.event == event and one.column == column)
    as_it_was(tmp_path / "killed")
    change(tmp_path / "killed", case)
    log = await opened(tmp_path / "killed")
    assert "the hash chain put it right" in (await log.probe() or "")
    for stream in ("many", "alone", "newest", "old"):
        assert await log.read(stream, 0, events_max=99) == truth[stream]
    await log.close()
    log = await opened(tmp_path / "killed")
    assert await log.probe() is None
    await log.close()


async def test_an_event_whose_place_nothing_proves_is_corrupt_alone_if_its_stream_goes_on(
    tmp_path: Path,
) -> None:
    truth = await make(tmp_path)
    as_it_was(tmp_path / "killed")
    twice_damaged(tmp_path / "killed", truth["many"][1].position)
    log = await opened(tmp_path / "killed")
    with pytest.raises(Corrupt):
        await log.read("many", 1, events_max=1)
    assert await log.read("many", 2, events_max=9) == truth["many"][2:]
    done = await log.append(Append(ts_ms=0, events=(NewEvent("many", "t", b"{}"),)))
    assert [event.seq for event in done.events] == [5]  # type: ignore[union-attr]
    assert await log.probe()
    await log.close()


@pytest.mark.parametrize("event", ["newest", "alone"])
async def test_a_new_event_with_no_other_place_than_its_streams_next_is_corrupt_alone(
    tmp_path: Path, event: str
) -> None:
    truth = await make(tmp_path)
    as_it_was(tmp_path / "killed")
    twice_damaged(tmp_path / "killed", truth[event][0].position)
    log = await opened(tmp_path / "killed")
    assert {stream: log.head(stream).seq for stream in truth} == {
        stream: events[-1].seq for stream, events in truth.items()
    }
    with pytest.raises(Corrupt):
        await log.read(event, 0, events_max=1)
    assert await log.read("many", 0, events_max=9) == truth["many"]
    assert await log.probe()
    await log.close()


@pytest.mark.parametrize("rebuilt", [False, True], ids=["opened", "rebuilt"])
async def test_events_that_exchanged_their_positions_are_put_back(tmp_path: Path, rebuilt: bool) -> None:
    truth = await make(tmp_path)
    wrong = []
    for n, case in enumerate(exchanges()):
        if rebuilt and case.left == "killed":
            continue
        verdict = await judge(tmp_path, tmp_path / str(n), truth, case, rebuilt=rebuilt)
        is_old = not rebuilt and "old" in case.event and "old" in case.sql  # no opening looks at those
        if verdict.wrong or (verdict.outcome != "served" and not is_old):
            wrong.append((case, verdict))
    assert wrong == []


@pytest.mark.parametrize("place", ["seq = 1000000", "position = 1000000"])
async def test_doctor_promises_no_rebuild_where_only_the_place_of_a_false_event_is_known(
    tmp_path: Path, place: str
) -> None:
    truth = await make(tmp_path)
    as_it_was(tmp_path / "closed")
    path, at = tmp_path / "closed" / DATABASE, truth["old"][1].position
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE event SET {place}, body = x'00' WHERE position = ?", (at,))
    before = {damage.can_rebuild for damage in find_damage(path) if damage.position == at}
    rebuild(tmp_path / "closed")
    assert {damage.position for damage in find_damage(path)} - {0} == {at}
    assert before == {False}


async def test_two_changed_columns_harm_their_own_stream_alone_if_the_stream_is_not_changed(
    tmp_path: Path,
) -> None:
    truth = await make(tmp_path)
    wrong = []
    told = [case for case in pairs() if case.column not in _OPEN_TO_DOUBT]
    for n, case in enumerate(told[:: 3 if WHOLE else 15]):
        verdict = await judge(tmp_path, tmp_path / str(n), truth, case)
        wrong += [(case, verdict)] if verdict.wrong else []
    assert wrong == []


async def test_a_log_is_refused_if_nothing_says_to_which_stream_its_newest_event_belongs(
    tmp_path: Path,
) -> None:
    truth = await make(tmp_path)
    as_it_was(tmp_path / "killed")
    with closing(sqlite3.connect(tmp_path / "killed" / DATABASE, isolation_level=None)) as connection:
        of_old = "stream = (SELECT id FROM stream WHERE name = 'old'), body = x'00'"
        at = (truth["newest"][0].position,)
        connection.execute(f"UPDATE event SET {of_old} WHERE position = ?", at)
    before = shutil.copytree(tmp_path / "killed", tmp_path / "before") / DATABASE
    with pytest.raises(Lost):
        await opened(tmp_path / "killed")
    assert (tmp_path / "killed" / DATABASE).read_bytes() == before.read_bytes()
    log = await SqliteLog.open(
        tmp_path / "killed", ambient=FakeAmbient(2), master_key=MASTER_KEY, build="b", accept_loss=True
    )
    assert log.head("newest").seq < 2
    await log.close()
