"""Mail commands with an id: repeats, refusals, positions and imports in parts."""

import msgspec

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


@mail_world(import_lines_max=1)
async def test_an_import_too_long_is_refused_before_anything_is_done(world: MailWorld) -> None:
    body = await world.do("import_emails", data="a@x.com----p\nb@x.com----p", mail_type="imap")
    assert body["code"] == "too_large"
    body = await world.do("import_emails", data="a@x.com----p", mail_type="imap")
    assert body == {"type": "import_result", "total": 1, "success": 1, "failed": 0, "failed_details": []}
