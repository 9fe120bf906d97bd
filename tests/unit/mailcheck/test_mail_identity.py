"""What is one mail, decided by the mailbox: places, equal mails, and mails of an earlier version."""

from types import MappingProxyType

import msgspec
import pytest

from huahuo.eventstore.model import Append, RowDrop, RowPut
from huahuo.mailcheck import stored_events
from huahuo.mailcheck.fetched import UidCursor
from huahuo.mailcheck.imap.folders import JUNK, Folder, chosen, folder_of
from huahuo.mailcheck.imap.wire import Part
from huahuo.mailcheck.tables.records import KNOWN, MAILS
from tests.support.models.mail_book import USER, cursor, mail
from tests.support.worlds.mail_world import MailWorld, ScriptedCheck, in_mail_world

U = f"user/{USER}"


async def begun(world: MailWorld, number: int) -> ScriptedCheck:
    await world.do("check_emails", email_ids=[number])
    return await world.script.next()


async def told(world: MailWorld) -> list[int]:
    return [e["mail_id"] for e in await world.said() if e["type"] == "mail_received"]


async def forget(world: MailWorld, number: int) -> None:
    """Leave the rows as an earlier version would have left them."""
    part = str(number)
    rows = await world.log.rows(MAILS, part, limit=1_000)
    known = await world.log.rows(KNOWN, part, limit=1_000)
    changes: list[RowPut | RowDrop] = [RowDrop(KNOWN, part, key) for key, _ in known]
    for key, value in rows:
        record = msgspec.json.decode(value)
        del record["uid"], record["uidvalidity"]
        changes.append(RowPut(MAILS, part, key, msgspec.json.encode(record)))
    await world.log.append(Append(ts_ms=world.ambient.now_ms(), rows=tuple(changes), principal="test"))


def test_mails_of_an_earlier_version_do_not_double_when_their_folder_has_new_uids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(world: MailWorld) -> None:
        number = await world.add()
        old = [mail(n, "Your code", message_id="<same@x>", size=9) for n in (1, 2)] + [mail(3, "other")]
        with monkeypatch.context() as earlier:
            versions = MappingProxyType(dict(stored_events.VERSIONS) | {"cursor_moved": 1})
            earlier.setattr(stored_events, "VERSIONS", versions)
            check = await begun(world, number)
            await check.mails(*old)
            check.finish(3)
            await world.ended(number)
        await forget(world, number)
        await world.restart()
        # One more equal mail in the same place is another mail.
        check = await begun(world, number)
        await check.mails(mail(4, "Your code", message_id="<same@x>", size=9))
        check.finish(4)
        await world.until(U, lambda body: body.get("mail_id") == 4)
        check_two = None
        while check_two is None:
            answer = await world.do("check_emails", email_ids=[number])
            if answer["type"] == "success":
                check_two = await world.script.next()
        again = [
            mail(n, m.subject, uidvalidity=2, message_id=m.message_id, size=m.size)
            for n, m in enumerate([*old, mail(4, "Your code", message_id="<same@x>", size=9)], start=1)
        ]
        await check_two.mails(*again)
        check_two.finish(4)
        assert await told(world) == [1, 2, 3, 4]

    in_mail_world(test)


def test_what_two_readings_leave_between_them_is_not_taken_for_known() -> None:
    async def test(world: MailWorld) -> None:
        number = await world.add()
        check = await begun(world, number)
        await check.sink.mails([mail(100)], UidCursor("INBOX", 1, 100, rest=99))
        await check.sink.mails([mail(200)], UidCursor("INBOX", 1, 200, rest=199))
        assert await told(world) == [1]
        await check.sink.mails([mail(200)], UidCursor("INBOX", 1, 200, rest=99))
        await check.sink.mails([mail(99)], UidCursor("INBOX", 1, 200, rest=98))
        assert await told(world) == [1, 2, 3]
        check.finish(200)

    in_mail_world(test)


def test_a_mail_that_comes_back_under_the_uids_of_before_is_known() -> None:
    async def test(world: MailWorld) -> None:
        number = await world.add()
        check = await begun(world, number)
        for uidvalidity in (1, 2, 1):
            await check.sink.mails([mail(5, uidvalidity=uidvalidity)], cursor(5, uidvalidity))
        assert await told(world) == [1]
        check.finish(5)

    in_mail_world(test)


def listed(*lines: bytes) -> list[Folder]:
    return [folder for line in lines if (folder := folder_of([line])) is not None]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (rb'LIST (\HasNoChildren \Junk) "/" Odd', "Odd"),
        (rb'LIST () "/" "Junk Email"', "Junk Email"),
        (rb'LIST () "/" "&V4NXPpCuTvY-"', "垃圾邮件"),
        (rb'LIST () "." "INBOX.spam"', "INBOX.spam"),
        (rb'LIST () "/" "Courrier ind&AOk-sirable"', "Courrier indésirable"),
        (rb"LIST () NIL {4}", "Junk"),
    ],
)
def test_junk_is_found_by_its_use_or_by_its_name_in_many_languages(line: bytes, name: str) -> None:
    inbox, archive = rb'LIST () "/" INBOX', rb'LIST () "/" "Archive"'
    parts = [(line, b"Junk"), b""] if line.endswith(b"}") else [line]
    folder = folder_of(parts)  # type: ignore[arg-type]
    assert folder is not None
    found = chosen([*listed(inbox, archive), folder], (JUNK,))
    assert [one.name for one in found] == [name]


@pytest.mark.parametrize("name", [b"x\r\nh9 DELETE INBOX", b"a\0b", b"\x1b[2J", b"", b"\xff", b"x" * 1001])
def test_a_folder_whose_name_cannot_be_sent_is_left_out(name: bytes) -> None:
    parts: list[Part] = [(rb'LIST (\Junk) "/" {%d}' % len(name), name), b""]
    assert folder_of(parts) is None


def test_folders_that_cannot_be_opened_and_inbox_itself_are_left_out() -> None:
    found = listed(rb'LIST (\Noselect \Junk) "/" "Junk"', rb'LIST () "/" INBOX', rb'LIST () "/" "Work"')
    assert chosen(found, (JUNK, "inbox", "work", "WORK", "missing")) == [found[2]]
