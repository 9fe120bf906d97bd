"""Mail commands with an id: repeats, refusals, positions and imports in parts."""

from typing import Any

import msgspec
import pytest

from huahuo.eventstore.errors import CommandMismatch, Unavailable
from huahuo.mailcheck import zh
from tests.support.models.mail_book import USER
from tests.support.worlds.mail_world import MailWorld, mail_world

U = f"user/{USER}"
LONG = "a@x.com----p\nb@x.com----p\nrubbish\nc@x.com----p\nOLD@x.com----p\nd@x.com----p\ne@x.com----p"
LONG_RESULT = {
    "type": "import_result",
    "total": 7,
    "success": 5,
    "failed": 2,
    "failed_details": [
        {"line": 3, "reason": zh.TWO_FIELDS},
        {"line": 5, "reason": "邮箱地址已存在"},
    ],
}
"""What `LONG` brings where there is the address old@x.com already."""


@mail_world()
async def test_a_refusal_is_kept_too(world: MailWorld) -> None:
    await world.add("a@example.com")
    fields: dict[str, Any] = {"email": "a@example.com", "password": "p"}
    refused = await world.reply("add_email", command_id="c1", **fields)
    await world.do("delete_emails", email_ids=[1])
    repeat = await world.reply("add_email", command_id="c1", **fields)
    assert msgspec.json.decode(refused.body)["code"] == "already_exists"
    assert (repeat.body, repeat.duplicate) == (refused.body, True)


@mail_world(import_lines_a_part=2)
async def test_a_long_import_is_committed_in_parts_and_answered_once(world: MailWorld) -> None:
    await world.add("old@x.com")
    world.log.appends.clear()
    reply = await world.reply("import_emails", command_id="i1", data=LONG, mail_type="imap")
    assert msgspec.json.decode(reply.body) == LONG_RESULT
    assert reply.at == (U, 6)
    assert [len(append.secrets) for append in world.log.appends] == [2, 1, 2]
    assert {append.command_id for append in world.log.appends} == {"i1"}
    assert [row["email"][0] for row in (await world.rows()).values()] == list("oabcde")


@pytest.mark.parametrize("lost", [["", "before"], ["", "after"], ["", "", "after"]])
@pytest.mark.parametrize("crash", [False, True], ids=["goes on", "crash"])
@mail_world(import_lines_a_part=2)
async def test_a_long_import_that_was_interrupted_is_completed_by_its_repeat(
    world: MailWorld, lost: list[str], crash: bool
) -> None:
    await world.add("old@x.com")
    world.log.lose = list(lost)
    with pytest.raises(Unavailable):
        await world.reply("import_emails", command_id="i1", data=LONG, mail_type="imap")
    if crash:
        await world.crash()
    for _ in range(2):
        reply = await world.reply("import_emails", command_id="i1", data=LONG, mail_type="imap")
        assert msgspec.json.decode(reply.body) == LONG_RESULT
    assert [row["email"][0] for row in (await world.rows()).values()] == list("oabcde")
    await world.sound()


@mail_world(import_lines_a_part=2)
async def test_the_id_of_a_long_import_that_was_interrupted_belongs_to_its_content(world: MailWorld) -> None:
    world.log.lose = ["", "before"]
    with pytest.raises(Unavailable):
        await world.reply("import_emails", command_id="i1", data=LONG, mail_type="imap")
    with pytest.raises(CommandMismatch):
        await world.reply("import_emails", command_id="i1", data=LONG + "1", mail_type="imap")


@mail_world(import_lines_max=1)
async def test_an_import_too_long_is_refused_before_anything_is_done(world: MailWorld) -> None:
    body = await world.do("import_emails", data="a@x.com----p\nb@x.com----p", mail_type="imap")
    assert body["code"] == "too_large"
    body = await world.do("import_emails", data="a@x.com----p", mail_type="imap")
    assert body == {"type": "import_result", "total": 1, "success": 1, "failed": 0, "failed_details": []}


@mail_world()
async def test_a_login_name_that_is_not_the_address_signs_in_and_can_be_taken_off(world: MailWorld) -> None:
    told = await world.do("add_email", email="a@x.com", password="p", login="ann")
    email_id = told["email_id"]
    for user, fields in (("ann", {}), ("bob", {"login": "bob"}), ("a@x.com", {"login": "a@x.com"})):
        if fields:
            await world.do("update_email", email_id=email_id, **fields)
        head = world.log.head(U).seq
        await world.do("check_emails", email_ids=[email_id])
        check = await world.script.next()
        assert check.target.user == user
        check.finish(0)
        await world.ended(email_id, after=head)
    await world.do("import_emails", data="email,password,login\nb@x.com,p,ben", mail_type="imap")
    await world.do("check_emails", email_ids=[email_id + 1])
    assert (await world.script.next()).target.user == "ben"
