"""Events that SQLite cannot read any more are found in the file's pages, or told by position."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.backup import check_file
from huahuo.eventstore.errors import Corrupt, EventStoreError, Lost
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.directory_lock import LOCK
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.rebuild import rebuild
from huahuo.eventstore.sqlite.schema import DATABASE, PAGE_BYTES
from tests.support.worlds.event_leaves import STREAMS, Truth, leaves, left, write
from tests.support.worlds.logs import MASTER_KEY
from tests.support.worlds.spoilt import as_killed, opened, page_of


def swap(directory: Path, one: int, other: int) -> None:
    data = (directory / DATABASE).read_bytes()
    write(directory, one, data[other : other + PAGE_BYTES])
    write(directory, other, data[one : one + PAGE_BYTES])


async def refused(log: SqliteLog, truth: Truth) -> list[tuple[str, int]]:
    """The events that are not served. Every other one must be what was written."""
    refusals: list[tuple[str, int]] = []
    for stream, events in truth.items():
        assert log.head(stream).seq == len(events)
        for event in events:
            try:
                [found] = await log.read(stream, event.seq - 1, events_max=1)
            except Corrupt:
                refusals.append((stream, event.seq))
            else:
                assert found == event
    return refusals


@pytest.mark.parametrize("other", ["seq_index", "pruned", "stream"])
async def test_events_whose_page_changed_places_with_another_tables_are_all_served_after_a_kill(
    tmp_path: Path, other: str
) -> None:
    truth = await left(tmp_path, "killed")
    directory = tmp_path / "killed"
    swap(directory, leaves(directory)[2], page_of(directory, other))
    log = await opened(directory)
    assert await refused(log, truth) == []
    assert "the table of events" in log.corruption.places
    await log.close()


@pytest.mark.parametrize("other", ["seq_index", "pruned", "stream"])
async def test_events_whose_page_changed_places_with_another_tables_are_all_served_after_a_rebuild(
    tmp_path: Path, other: str
) -> None:
    truth = await left(tmp_path, "closed")
    directory = tmp_path / "closed"
    swap(directory, leaves(directory)[2], page_of(directory, other))
    rebuild(directory)
    log = await opened(directory)
    assert await refused(log, truth) == []
    await log.close()
    assert find_damage(directory / DATABASE) == []


@pytest.mark.parametrize("place", ["leaf", "root", "two leaves"])
async def test_events_of_a_page_whose_head_is_damaged_are_all_served_after_a_kill(
    tmp_path: Path, place: str
) -> None:
    truth = await left(tmp_path, "killed")
    directory = tmp_path / "killed"
    pages = leaves(directory)
    at = {"leaf": pages[3:4], "root": [page_of(directory, "event")], "two leaves": pages[1:3]}[place]
    for page in at:
        write(directory, page, b"\xff" * 8)
    log = await opened(directory)
    assert await refused(log, truth) == []
    await log.append(Append(ts_ms=0, events=tuple(NewEvent(stream, "t", b"{}") for stream in STREAMS)))
    await log.close()
    log = await opened(directory)
    assert [log.head(stream).seq for stream in STREAMS] == [len(truth[stream]) + 1 for stream in STREAMS]
    assert await log.probe() is None
    await log.close()
    assert find_damage(directory / DATABASE) == []


async def test_lost_events_are_told_by_their_streams_if_these_are_known_from_what_is_left(
    tmp_path: Path,
) -> None:
    truth = await left(tmp_path, "killed")
    directory = tmp_path / "killed"
    write(directory, leaves(directory)[2], bytes(PAGE_BYTES))
    log = await opened(directory)
    lost = await refused(log, truth)
    assert 10 < len(lost) < 60
    told = log.corruption.places["the table of events"]
    assert re.search(r"\d+ events are lost, of the streams s0, s1, s2, s3", told)
    await log.close()
    log = await opened(directory)
    assert await refused(log, truth) == lost
    await log.close()
    assert find_damage(directory / DATABASE)


async def test_of_a_closed_log_the_index_tells_the_streams_of_the_newest_events(tmp_path: Path) -> None:
    truth = await left(tmp_path, "closed")
    write(tmp_path / "closed", leaves(tmp_path / "closed")[-1], bytes(PAGE_BYTES))
    log = await opened(tmp_path / "closed")
    lost = await refused(log, truth)
    assert {stream for stream, _ in lost} == set(STREAMS)
    await log.append(Append(ts_ms=0, events=(NewEvent("s0", "t", b"{}"),)))
    assert (await log.read("s0", len(truth["s0"]), events_max=1))[0].seq == len(truth["s0"]) + 1
    await log.close()


async def test_lost_events_of_unknown_streams_refuse_the_log_until_the_loss_is_accepted(
    tmp_path: Path,
) -> None:
    truth = await left(tmp_path, "killed")
    directory = tmp_path / "killed"
    write(directory, leaves(directory)[-1], bytes(PAGE_BYTES))
    before = (directory / DATABASE).read_bytes()
    with pytest.raises(Lost, match=r"events between positions \d+ and \d+ cannot be read any more") as caught:
        await opened(directory)
    assert (directory / DATABASE).read_bytes() == before
    log = await SqliteLog.open(
        directory, ambient=FakeAmbient(2), master_key=MASTER_KEY, build="b", accept_loss=True
    )
    assert log.position < caught.value.position
    for stream in STREAMS:
        kept = log.head(stream).seq
        assert await log.read(stream, 0, events_max=1000) == truth[stream][:kept]
    await log.append(Append(ts_ms=0, events=(NewEvent("s0", "t", b"{}"),)))
    await log.close()
    log = await opened(directory)
    assert await log.probe() is None
    await log.close()


async def test_a_loss_in_the_middle_that_is_accepted_hides_no_event_behind_it(tmp_path: Path) -> None:
    log = await opened(tmp_path / "log")
    for n in range(300):  # no stream has a second event
        await log.append(Append(ts_ms=0, events=(NewEvent(f"s{n}", "t", b"x" * 200),)))
    as_killed(tmp_path / "log", tmp_path / "killed")
    await log.close()
    directory = tmp_path / "killed"
    write(directory, leaves(directory)[2], bytes(PAGE_BYTES))
    with pytest.raises(Lost, match=r"of 32 of them nothing says to which streams they belong"):
        await opened(directory)
    log = await SqliteLog.open(
        directory, ambient=FakeAmbient(2), master_key=MASTER_KEY, build="b", accept_loss=True
    )
    assert log.position == 300
    assert len(await log.read("s299", 0, events_max=9)) == 1
    assert "32 events of unknown streams are lost" in log.corruption.places["the table of events"]
    await log.close()


async def test_a_file_that_was_cut_off_is_opened_with_what_it_has(tmp_path: Path) -> None:
    truth = await left(tmp_path, "closed")
    path = tmp_path / "closed" / DATABASE
    data = path.read_bytes()
    path.write_bytes(data[: -PAGE_BYTES - 100])
    log = await opened(tmp_path / "closed")
    assert 0 < len(await refused(log, truth)) < 40, "those of the last page"
    assert await log.probe()
    await log.close()


async def test_a_rebuild_puts_a_changed_byte_of_an_event_right(tmp_path: Path) -> None:
    truth = await left(tmp_path, "closed")
    directory = tmp_path / "closed"
    data = (directory / DATABASE).read_bytes()
    write(directory, data.index(truth["s2"][5].body), b"?")
    log = await opened(directory)
    assert await refused(log, truth) == [("s2", 6)]
    await log.close()
    assert all(damage.can_rebuild for damage in find_damage(directory / DATABASE))
    rebuild(directory)
    assert find_damage(directory / DATABASE) == []
    log = await opened(directory)
    assert await refused(log, truth) == []
    await log.close()


async def test_a_text_of_one_of_the_newest_events_that_is_none_any_more_is_put_right_after_a_kill(
    tmp_path: Path,
) -> None:
    log = await opened(tmp_path / "log")
    done = await log.append(Append(ts_ms=0, events=(NewEvent("s0", "t", b"{}", entity="order/17"),)))
    for n in range(3):
        await log.append(Append(ts_ms=n, events=(NewEvent("s1", "t", b"{}"),)))
    as_killed(tmp_path / "log", tmp_path / "killed")
    await log.close()
    data = (tmp_path / "killed" / DATABASE).read_bytes()
    write(tmp_path / "killed", data.index(b"order/17") + 2, b"\xe4")
    log = await opened(tmp_path / "killed")
    assert await log.read("s0", 0, events_max=9) == list(done.events)  # type: ignore[union-attr]
    await log.close()


async def test_a_rebuild_cannot_make_up_an_event_that_is_gone(tmp_path: Path) -> None:
    truth = await left(tmp_path, "closed")
    directory = tmp_path / "closed"
    data = (directory / DATABASE).read_bytes()
    write(directory, data.index(truth["s2"][5].body), b"??")
    assert not all(damage.can_rebuild for damage in find_damage(directory / DATABASE))
    rebuild(directory)
    log = await opened(directory)
    assert await refused(log, truth) == [("s2", 6)]
    await log.close()


async def test_an_events_page_of_an_older_time_loses_only_what_it_lacks(tmp_path: Path) -> None:
    log = await opened(tmp_path / "log")
    for n in range(40):
        await log.append(Append(ts_ms=0, events=(NewEvent(f"s{n % 2}", "t", b"x" * 300),)))
        if n == 25:
            as_killed(tmp_path / "log", tmp_path / "older")
    as_killed(tmp_path / "log", tmp_path / "killed")
    await log.close()
    older = (tmp_path / "older" / DATABASE).read_bytes()
    at = leaves(tmp_path / "killed")[1]
    with closing(sqlite3.connect(tmp_path / "older" / DATABASE)) as connection:
        [seen] = connection.execute("SELECT count(*) FROM event").fetchone()
    assert seen == 26
    write(tmp_path / "killed", at, older[at : at + PAGE_BYTES])
    try:
        log = await opened(tmp_path / "killed")
    except EventStoreError as error:
        assert isinstance(error, Lost)  # noqa: PT017  either is right, and both tell it
    else:
        assert "events are lost" in (await log.probe() or "")
        await log.close()


async def test_pages_that_were_left_unused_do_not_keep_a_log_closed_after_a_power_cut(tmp_path: Path) -> None:
    truth = await left(tmp_path, "killed")
    directory = tmp_path / "killed"
    write(directory, leaves(directory)[3], b"\xff" * 8)
    await (await opened(directory)).close()
    (directory / LOCK).write_text('{"pid":1}')
    log = await opened(directory)
    assert await refused(log, truth) == []
    assert not log.corruption.found
    await log.close()
    assert (await check_file(directory / DATABASE)).position == log.position


async def test_an_event_that_has_a_value_of_another_kind_is_refused_alone_after_a_rebuild(
    tmp_path: Path,
) -> None:
    truth = await left(tmp_path, "closed")
    directory = tmp_path / "closed"
    kinds = b"\x0d\x0d\x0d\x08"  # in the head of a row: three empty texts, and the cause, which is 0
    at = (directory / DATABASE).read_bytes().index(kinds, leaves(directory)[2])
    write(directory, at + 3, b"\x00")
    rebuild(directory)
    log = await opened(directory)
    assert len(await refused(log, truth)) == 1
    await log.close()
