"""A mail that the index cannot take: the others are found, it is told, and a rebuild takes it up."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from huahuo.eventstore.fulltext.index import TextIndex, Unusable
from huahuo.eventstore.fulltext.words import Entry, Place
from huahuo.mailcheck.records import INDEX_FILE, INDEX_NAME
from tests.support.worlds.mail_world import MailWorld
from tests.support.worlds.search_world import found, letter, receive, search_world

_TRIES = 6
"""How often a mail is tried alone."""


class Faulty:
    """Puts nothing that has the word `poison`, as long as `fails` says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Exception]) -> None:
        self.tries = 0
        self.fails: Callable[[], bool] = lambda: True
        put = TextIndex.put

        def faulty(index: TextIndex, entries: Sequence[Entry], place: Place | None = None) -> None:
            if any("poison" in text for entry in entries for text in entry.texts.values()) and self.fails():
                self.tries += len(entries) == 1
                raise fault()
            put(index, entries, place)

        monkeypatch.setattr(TextIndex, "put", faulty)


def disk_full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"
    return error


@pytest.mark.parametrize("fault", [RuntimeError, lambda: Unusable("the index is damaged")])
def test_a_mail_that_cannot_be_put_is_left_out_and_told_and_a_rebuild_takes_it_up(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Exception]
) -> None:
    faulty = Faulty(monkeypatch, fault)

    async def test(world: MailWorld) -> None:
        await world.add("a@example.com")
        with capture_logs() as logs:
            await receive(world, 1, letter(1, "first"), letter(2, "poison"), letter(3, "third"))
        assert faulty.tries == _TRIES
        assert [await found(world, word) for word in ("first", "third")] == [["first"], ["third"]]
        assert await found(world, "poison") == []
        [told] = [line for line in logs if line["event"] == "mail_left_out_of_search"]
        assert told["mails"] == [2]
        assert told["what_to_do"] == f"huahuo projections rebuild {INDEX_NAME}"
        index = world.projections[INDEX_NAME]
        assert (index.standing().lag, index.standing().dead_letters) == (0, 1)
        faulty.fails = lambda: False
        await index.rebuild("user/1")
        await world.mail.idle()
        assert await found(world, "poison") == ["poison"]
        assert index.standing().dead_letters == 0

    search_world(test)


def test_an_index_that_is_made_anew_at_a_start_takes_up_what_was_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    faulty = Faulty(monkeypatch, RuntimeError)

    async def test(world: MailWorld) -> None:
        world.files = tmp_path
        await world.restart()
        await world.add("a@example.com")
        await receive(world, 1, letter(1, "poison"))
        await world.close()
        faulty.fails = lambda: False
        (tmp_path / INDEX_FILE).unlink()
        await world.open()
        await world.start()
        await world.mail.idle()
        assert await found(world, "poison") == ["poison"]
        assert world.projections[INDEX_NAME].standing().dead_letters == 0

    search_world(test)


def test_a_full_disk_leaves_no_mail_out(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = Faulty(monkeypatch, disk_full)
    faulty.fails = lambda: faulty.tries < _TRIES + 3

    async def test(world: MailWorld) -> None:
        await world.add("a@example.com")
        await receive(world, 1, letter(1, "poison"))
        assert await found(world, "poison") == ["poison"]
        assert world.projections[INDEX_NAME].standing().dead_letters == 0

    search_world(test)
