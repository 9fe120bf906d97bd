"""What is one mail, decided by the mailbox: places and equal mails."""

import pytest

from huahuo.mailcheck.events import UidCursor
from huahuo.mailcheck.servers.imap_grammar import JUNK, Folder, Part, chosen, folder_of
from tests.support.models.mail_book import cursor, mail
from tests.support.worlds.mail_world import MailWorld, ScriptedCheck, mail_world


async def begun(world: MailWorld, number: int) -> ScriptedCheck:
    await world.do("check_emails", email_ids=[number])
    return await world.script.next()


async def told(world: MailWorld) -> list[int]:
    return [e["mail_id"] for e in await world.said() if e["type"] == "mail_received"]


@mail_world()
async def test_what_two_readings_leave_between_them_is_not_taken_for_known(world: MailWorld) -> None:
    number = await world.add()
    check = await begun(world, number)
    await check.sink.mails([mail(100)], UidCursor("INBOX", 1, 100, rest=99))
    await check.sink.mails([mail(200)], UidCursor("INBOX", 1, 200, rest=199))
    assert await told(world) == [1]
    await check.sink.mails([mail(200)], UidCursor("INBOX", 1, 200, rest=99))
    await check.sink.mails([mail(99)], UidCursor("INBOX", 1, 200, rest=98))
    assert await told(world) == [1, 2, 3]
    check.finish(200)


@mail_world()
async def test_a_mail_that_comes_back_under_the_uids_of_before_is_known(world: MailWorld) -> None:
    number = await world.add()
    check = await begun(world, number)
    for uidvalidity in (1, 2, 1):
        await check.sink.mails([mail(5, uidvalidity=uidvalidity)], cursor(5, uidvalidity))
    assert await told(world) == [1]
    check.finish(5)


def listed(*lines: bytes) -> list[Folder]:
    return [folder for line in lines if (folder := folder_of([line])) is not None]


@pytest.mark.parametrize("name", [b"x\r\nh9 DELETE INBOX", b"a\0b", b"\x1b[2J", b"", b"\xff", b"x" * 1001])
def test_a_folder_whose_name_cannot_be_sent_is_left_out(name: bytes) -> None:
    parts: list[Part] = [(rb'LIST (\Junk) "/" {%d}' % len(name), name), b""]
    assert folder_of(parts) is None


def test_folders_that_cannot_be_opened_and_inbox_itself_are_left_out() -> None:
    found = listed(rb'LIST (\Noselect \Junk) "/" "Junk"', rb'LIST () "/" INBOX', rb'LIST () "/" "Work"')
    assert chosen(found, (JUNK, "inbox", "work", "WORK", "missing")) == [found[2]]
