"""Searching mails: what is found, whose it is, what is left when a mailbox is gone, and mails left out."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.fulltext.index import TextIndex, Unusable
from huahuo.eventstore.fulltext.words import Entry, Place
from huahuo.eventstore.model import RowDrop
from huahuo.mailcheck.api import mail_actions
from huahuo.mailcheck.api.contents import Keeping
from huahuo.mailcheck.mailbox.decider import SeeUnread
from huahuo.mailcheck.records import INDEX_FILE, INDEX_NAME, MAILS
from tests.support.worlds.mail_world import MailWorld, mail_world
from tests.support.worlds.search_world import found, letter, receive


@mail_world(searching=True)
async def test_filters_limit_what_is_found(world: MailWorld) -> None:
    for name in "abc":
        await world.add(f"{name}@example.com")
    await receive(world, 1, letter(1, "one", code="482913", code_confidence=0.9), letter(2, "two"))
    await receive(world, 2, letter(3, "three", has_attachments=True))
    await receive(world, 3, letter(4, "four"))
    await world.do("label_emails", email_ids=[1, 2], add_tags=["shop"])
    await world.do("label_emails", email_ids=[2, 3], group="ops")
    assert await found(world, tag="shop") == ["three", "two", "one"]
    assert await found(world, group="ops") == ["four", "three"]
    assert await found(world, tag="") == ["four"]
    assert await found(world, tag="shop", group="ops") == ["three"]
    assert await found(world, email_ids=[1, 3]) == ["four", "two", "one"]
    assert await found(world, email_ids=[]) == []
    assert await found(world, has_code=True) == ["one"]
    assert await found(world, has_code=False, email_ids=[1]) == ["two"]
    assert await found(world, has_attachments=True) == ["three"]
    since, until = (f"2026-09-21T13:{minute:02}:20Z" for minute in (15, 17))
    assert await found(world, since=since, until=until) == ["three", "two"]


@pytest.mark.parametrize("passed_over", [64, 0])
@mail_world(searching=True)
async def test_a_large_mailbox_that_is_still_being_removed_hides_no_mail(
    world: MailWorld, monkeypatch: pytest.MonkeyPatch, passed_over: int
) -> None:
    monkeypatch.setattr(mail_actions, "_GONE_MAX", passed_over, raising=False)
    await world.add("large@example.com")
    await world.add("small@example.com")
    await receive(world, 2, *(letter(n, f"found {n}") for n in range(1, 4)))
    await receive(world, 1, *(letter(n, f"gone {n}") for n in range(10, 410)))
    world.log.before_append = lambda append: _not_yet(append.rows)
    await world.do("delete_emails", email_ids=[1])
    reply = await world.do("search_mails", limit=2)
    assert [one["subject"] for one in reply["data"]] == ["found 3", "found 2"]
    rest = await world.do("search_mails", limit=2, before=reply["next"])
    assert ([one["subject"] for one in rest["data"]], rest["next"]) == (["found 1"], None)


def _not_yet(rows: tuple[Any, ...]) -> None:
    """Nothing of a deleted mailbox is removed."""
    if any(isinstance(row, RowDrop) and row.table == MAILS for row in rows):
        raise Unavailable("test")


@mail_world(searching=True)
async def test_an_index_that_was_lost_is_made_anew_at_the_start(world: MailWorld, tmp_path: Path) -> None:
    world.files = tmp_path
    await world.restart()
    await world.add("a@example.com")
    await receive(world, 1, letter(1, "first"))
    await world.close()
    (tmp_path / INDEX_FILE).unlink()
    await world.open()
    await world.start()
    await world.mail.idle()
    assert await found(world, "first") == ["first"]
    assert world.projections[INDEX_NAME].standing().lag == 0


@pytest.mark.parametrize("column", ["item", "part", "at_ms"])
@mail_world(searching=True)
async def test_an_entry_that_leads_to_no_mail_is_not_passed_over_and_the_index_is_made_anew(
    world: MailWorld, tmp_path: Path, column: str
) -> None:
    world.files = tmp_path
    await world.restart()
    await world.add("a@example.com")
    await receive(world, 1, letter(1, "first"), letter(2, "second"))
    await world.close()
    with closing(sqlite3.connect(tmp_path / INDEX_FILE)) as db, db:
        db.execute(f"UPDATE doc SET {column} = {column} + 1024 WHERE item = 1")
    await world.open()
    await world.start()
    await world.mail.idle()
    assert (await world.do("search_mails", query="first"))["code"] == "busy"
    await world.mail.idle()
    assert await found(world) == ["second", "first"]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"query": "-only"}, "query"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-13-01"}, "until"),
        ({"before": "x"}, "before"),
        ({"before": "9" * 30}, "before"),
        ({"before": "9" * 5_000}, "before"),
    ],
)
@mail_world(searching=True)
async def test_what_cannot_be_answered_is_refused_with_the_field(
    world: MailWorld, fields: dict[str, Any], name: str
) -> None:
    reply = await world.do("search_mails", **fields)
    assert (reply["code"], reply["message"]) == ("invalid_field", f"字段无效：{name}")


@mail_world(searching=True)
async def test_mails_of_a_mailbox_are_listed_oldest_first_page_by_page(world: MailWorld) -> None:
    await world.add("a@example.com")
    await receive(world, 1, *(letter(n, f"mail {n}") for n in range(1, 8)))
    seen: list[str] = []
    before = None
    while True:
        fields: dict[str, Any] = {"email_id": 1, "limit": 3, "sort": "received_time", "before": before}
        page = await world.do("get_mail_records", **fields)
        seen += [one["subject"] for one in page["data"]]
        before = page["next"]
        if before is None:
            break
    assert seen == [f"mail {n}" for n in range(1, 8)]


@mail_world(searching=True)
async def test_a_mail_told_by_its_headers_is_found_by_its_text_once_that_was_read(world: MailWorld) -> None:
    await world.add("a@example.com")
    await receive(world, 1, letter(1, "Invoice", content=b"", has_attachments=True))
    assert (await found(world, "invoice"), await found(world, "paris")) == (["Invoice"], [])
    whole = letter(1, "Invoice", "for the trip to Paris", to="team@lists.example").content
    keeping = Keeping(world.mail.mailboxes)
    assert await keeping.keep(1, {1: (whole, False)})
    await world.mail.idle()
    assert (await found(world, "paris"), await found(world, "to:team")) == (["Invoice"], ["Invoice"])
    assert await found(world, has_attachments=True) == []
    assert await keeping.keep(1, {1: (b"{}", True)}), "what is kept stays"
    assert await found(world, "paris") == ["Invoice"]
    await world.do("delete_emails", email_ids=[1])
    await world.mail.idle()
    assert not await keeping.keep(1, {1: (whole, False)}) or await found(world) == []


@mail_world(searching=True)
async def test_a_search_can_be_limited_to_what_is_unread_there(world: MailWorld) -> None:
    await world.add("a@example.com")
    await receive(world, 1, *(letter(n, f"mail {n}") for n in range(1, 6)))
    mailboxes = world.mail.mailboxes
    await mailboxes.tell(1, SeeUnread("INBOX", 1, "2,4:5"))
    assert await found(world, unread=True) == ["mail 5", "mail 4", "mail 2"]
    assert await found(world, "mail", unread=False) == ["mail 3", "mail 1"]
    page = await world.do("search_mails", unread=True, limit=2)
    assert ([one["subject"] for one in page["data"]], page["data"][0]["unread"]) == (
        ["mail 5", "mail 4"],
        True,
    )
    assert await found(world, unread=True, limit=2, before=page["next"]) == ["mail 2"]


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
@mail_world(searching=True)
async def test_a_mail_that_cannot_be_put_is_left_out_and_told_and_a_rebuild_takes_it_up(
    world: MailWorld, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Exception]
) -> None:
    faulty = Faulty(monkeypatch, fault)
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


@mail_world(searching=True)
async def test_a_full_disk_leaves_no_mail_out(world: MailWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = Faulty(monkeypatch, disk_full)
    faulty.fails = lambda: faulty.tries < _TRIES + 3
    await world.add("a@example.com")
    await receive(world, 1, letter(1, "poison"))
    assert await found(world, "poison") == ["poison"]
    assert world.projections[INDEX_NAME].standing().dead_letters == 0
