"""A damaged row of the names closes no log: its other copy is read, and what has none answers `corrupt`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import LOG_STREAM, Ack, Append, NewEvent, Pruning
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.eventstore.sqlite.rebuild import rebuild
from huahuo.eventstore.sqlite.schema import DATABASE, PAGE_BYTES
from tests.support.worlds.spoilt import change_in, flip, hide_last_row, opened, page_of, spoil

STREAMS = ("group/a", "group/b", "group/c")
type Damage = Callable[[Path], None]


async def filled(directory: Path) -> None:
    log = await opened(directory)
    for n in range(3):
        for stream in STREAMS:
            event = NewEvent(stream, "said", b'{"type":"said","%s":%d}' % (stream.encode(), n))
            await log.append(Append(ts_ms=0, events=(event,)))
    await log.close()


def row_of_a_stream(directory: Path) -> None:
    change_in(directory, "stream", b"group/b")


def row_of_a_type(directory: Path) -> None:
    change_in(directory, "name", b"said")


def index_of_streams(directory: Path) -> None:
    change_in(directory, "stream_unique", b"group/b")


def hidden_stream(directory: Path) -> None:
    hide_last_row(directory, "stream")


def hidden_type(directory: Path) -> None:
    hide_last_row(directory, "name")


def hidden_in_index(directory: Path) -> None:
    hide_last_row(directory, "stream_unique")


def page_of_streams(directory: Path) -> None:
    spoil(directory, "stream")


def page_of_types(directory: Path) -> None:
    spoil(directory, "name")


DAMAGES = (
    row_of_a_stream, row_of_a_type, hidden_stream, hidden_type, hidden_in_index, page_of_streams,
    page_of_types,
)  # fmt: skip


async def bodies(log: SqliteLog, stream: str) -> list[int]:
    return [event.seq for event in await log.read(stream, 0, events_max=99)]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_one_copy_of_a_name_lost_is_read_from_the_other_and_told(
    tmp_path: Path, damage: Damage
) -> None:
    await filled(tmp_path)
    damage(tmp_path)
    log = await opened(tmp_path)
    assert [await bodies(log, stream) for stream in STREAMS] == [[1, 2, 3]] * 3
    assert len(await log.read(LOG_STREAM, 0, events_max=99)) == 9
    assert "run `huahuo doctor`" in (await log.probe() or "")
    for stream in STREAMS:
        await log.append(Append(ts_ms=0, events=(NewEvent(stream, "said", b"{}"),)))
    assert [log.head(stream).seq for stream in STREAMS] == [4] * 3
    await log.close()


@pytest.mark.parametrize("damage", [*DAMAGES, index_of_streams])
async def test_a_rebuild_writes_names_again_from_what_is_whole(tmp_path: Path, damage: Damage) -> None:
    await filled(tmp_path)
    damage(tmp_path)
    found = find_damage(tmp_path / DATABASE)
    assert found
    assert all(damage.can_rebuild for damage in found), found
    rebuild(tmp_path)
    assert find_damage(tmp_path / DATABASE) == []
    log = await opened(tmp_path)
    assert log.corruption.places == {}
    await log.append(Append(ts_ms=0, events=(NewEvent("new", "new", b"{}"),)))
    assert [await bodies(log, stream) for stream in STREAMS] == [[1, 2, 3]] * 3
    assert await log.verify() == 10
    await log.close()


@pytest.mark.parametrize("damage", [hidden_stream, hidden_in_index, page_of_streams])
async def test_a_damaged_page_of_names_takes_no_new_name_and_fails_no_other_append(
    tmp_path: Path, damage: Damage
) -> None:
    await filled(tmp_path)
    damage(tmp_path)
    log = await opened(tmp_path)
    new = log.submit(Append(ts_ms=0, events=(NewEvent("new", "said", b"{}"),)))
    old = log.submit(Append(ts_ms=0, events=(NewEvent("group/a", "said", b"{}"),)))
    with pytest.raises(Corrupt, match="no new one can be written"):
        await new
    await old
    assert log.head("new").seq == 0
    await log.close()


async def test_a_name_that_both_copies_lost_is_recognised_when_somebody_asks_for_it(tmp_path: Path) -> None:
    await filled(tmp_path)
    row_of_a_stream(tmp_path)
    index_of_streams(tmp_path)
    log = await opened(tmp_path)
    with pytest.raises(Corrupt, match="does not fit its checksum"):
        await log.read(LOG_STREAM, 0, events_max=99)
    assert "name is lost" in (await log.probe() or "")
    assert log.head("group/d").seq == 0
    await log.append(Append(ts_ms=0, events=(NewEvent("group/d", "said", b"{}"),)))
    assert log.head("group/b").seq == 3
    await log.append(Append(ts_ms=0, events=(NewEvent("group/b", "said", b"{}"),)))
    assert await bodies(log, "group/b") == [1, 2, 3, 4]
    assert len(await log.read(LOG_STREAM, 0, events_max=99)) == 11
    await log.close()
    assert any(
        "is lost" in found.text and not found.can_rebuild for found in find_damage(tmp_path / DATABASE)
    )


async def test_a_new_stream_cannot_have_the_name_that_stands_in_the_row_of_a_lost_one(tmp_path: Path) -> None:
    await filled(tmp_path)
    row_of_a_stream(tmp_path)
    index_of_streams(tmp_path)
    log = await opened(tmp_path)
    with pytest.raises(Corrupt, match="has this name"):
        await log.append(Append(ts_ms=0, events=(NewEvent("group/f", "said", b"{}"),)))
    await log.close()


async def test_a_name_that_both_copies_lost_is_found_where_it_stands_elsewhere(tmp_path: Path) -> None:
    await filled(tmp_path)
    log = await opened(tmp_path)
    await log.save_acks([Ack("user/1", "c", "group/b", 2)])
    await log.close()
    row_of_a_stream(tmp_path)
    index_of_streams(tmp_path)
    log = await opened(tmp_path)
    assert len(await log.read(LOG_STREAM, 0, events_max=99)) == 9
    await log.close()
    rebuild(tmp_path)
    assert find_damage(tmp_path / DATABASE) == []


async def test_pruning_does_not_make_a_damaged_name_fit_again(tmp_path: Path) -> None:
    await filled(tmp_path)
    row_of_a_stream(tmp_path)
    log = await opened(tmp_path)
    await log.index_to(log.position)
    await log.append(Append(ts_ms=0, prune=Pruning((2,), {"group/b": 2})))
    assert await bodies(log, "group/b") == [2, 3]
    await log.close()
    log = await opened(tmp_path)
    assert log.head("group/b").first == 2
    assert list(log.corruption.places) == ["name of stream number 2"]
    await log.close()


def checksum_of_a_type(directory: Path) -> None:
    """The checksum stands right behind the text in its row."""
    start = page_of(directory, "name")
    data = (directory / DATABASE).read_bytes()
    flip(directory, data.index(b"said", start, start + PAGE_BYTES) + len(b"said"))


async def test_of_two_texts_that_fit_no_checksum_the_one_that_the_chain_proves_is_read_and_rebuilt(
    tmp_path: Path,
) -> None:
    await filled(tmp_path)
    checksum_of_a_type(tmp_path)
    change_in(tmp_path, "name_unique", b"said")
    log = await opened(tmp_path)
    assert len(await log.read(LOG_STREAM, 0, events_max=99)) == 9
    await log.close()
    rebuild(tmp_path)
    assert find_damage(tmp_path / DATABASE) == []
    log = await opened(tmp_path)
    assert await log.verify() == 9
    await log.close()


async def test_a_rebuild_gives_a_text_that_nothing_proves_no_checksum_that_fits(tmp_path: Path) -> None:
    await filled(tmp_path)
    row_of_a_type(tmp_path)
    change_in(tmp_path, "name_unique", b"said")
    for _ in range(2):
        found = [one for one in find_damage(tmp_path / DATABASE) if "number" in one.text]
        assert [one.can_rebuild for one in found] == [False]
        assert "neither of its two copies" in found[0].text
        rebuild(tmp_path)
    log = await opened(tmp_path)
    with pytest.raises(Corrupt):
        await log.read(LOG_STREAM, 0, events_max=99)
    await log.append(Append(ts_ms=0, events=(NewEvent("group/a", "said", b"{}"),)))
    assert [event.type for event in await log.read("group/a", 3, events_max=9)] == ["said"]
    await log.close()
