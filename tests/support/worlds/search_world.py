"""Mails that are received in a world with an index of mails, and searched there."""

from typing import Any

import msgspec

from huahuo.actors.plugins.calls import UserId
from huahuo.mailcheck.events import FetchedMail
from tests.support.models.mail_book import NOW_MS, USER, mail
from tests.support.worlds.mail_world import MailWorld


def letter(uid: int, subject: str, text: str = "", **fields: Any) -> FetchedMail:
    content = {
        "text": text,
        "html": "",
        "attachments": [],
        "to": "me@example.com",
        "cc": "",
        "truncated": False,
    }
    content |= {name: fields.pop(name) for name in ("html", "to") if name in fields}
    given: dict[str, Any] = {
        "content": msgspec.json.encode(content),
        "date_ms": NOW_MS - 3_600_000 + uid * 60_000,
        **fields,
    }
    return mail(uid, subject, **given)


async def receive(world: MailWorld, email_id: int, *mails: FetchedMail, user_id: UserId = USER) -> None:
    await world.do("check_emails", user_id, email_ids=[email_id])
    check = await world.script.next()
    await check.mails(*mails)
    check.finish(len(mails))
    await world.ended(email_id, user_id)
    await world.mail.idle()


async def found(world: MailWorld, query: str = "", user_id: UserId = USER, **fields: Any) -> list[str]:
    reply = await world.do("search_mails", user_id, query=query, **fields)
    assert reply["type"] == "mails_found", reply
    return [one["subject"] for one in reply["data"]]
