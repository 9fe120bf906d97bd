"""Mails taken over from FireMail: as mails of ours, and not told again by the first check."""

from typing import Any

import pytest

from huahuo.mailcheck.classic.queries import adopted_content_of, moment_ms
from huahuo.mailcheck.events import FetchedMail
from tests.support.models.mail_book import mail
from tests.support.worlds.mail_world import MailWorld, mail_world


@pytest.mark.parametrize(
    ("stored", "text", "html"),
    [
        ("plain", "plain", ""),
        (None, "", ""),
        ("<p>hello</p>", "", "<p>hello</p>"),
        ('{"content": "<b>x</b>", "has_html": true}', "", "<b>x</b>"),
        ('{"content": "x < y", "content_type": "text/plain"}', "x < y", ""),
        ("{no json", "{no json", ""),
        ('{"other": 1}', '{"other": 1}', ""),
        ("lone \ud800 surrogate", "lone ? surrogate", ""),
    ],
)
def test_content_comes_in_each_form_that_was_stored(stored: object, text: str, html: str) -> None:
    assert adopted_content_of(stored) == (text, html)


@pytest.mark.parametrize(
    ("said", "ms"),
    [
        ("2026-01-05 10:00:00", 1_767_607_200_000),
        ("2026-01-05 18:00:00+08:00", 1_767_607_200_000),
        ("2026-01-05T10:00:00.250", 1_767_607_200_250),
        ("yesterday", None),
        (None, None),
    ],
)
def test_times_without_a_zone_are_utc(said: object, ms: int | None) -> None:
    assert moment_ms(said) == ms


AT_MS = 1_780_000_000_000
SENDER = "Alice <alice@example.com>"


def there(uid: int, subject: str, **fields: Any) -> FetchedMail:
    """A mail on the server."""
    return mail(uid, subject, **{"date_ms": AT_MS, "sender": SENDER, "message_id": f"<{uid}@x>", **fields})


async def take_over(world: MailWorld, *records: dict[str, Any]) -> None:
    adopting = world.mail.adopting
    check_id = await adopting.begin(1)
    given = {"subject": "Hello", "sender": SENDER, "received_time": "2026-05-28 20:26:40", "content": "x"}
    await adopting.mails(1, check_id, [{"id": n, **given, **one} for n, one in enumerate(records, 1)])
    await adopting.end(1, len(records))


async def check(world: MailWorld, *mails: FetchedMail) -> list[str]:
    """The subjects that this check tells."""
    before = len(await world.said())
    await world.do("check_emails", email_ids=[1])
    running = await world.script.next()
    await running.mails(*mails)
    running.finish(len(mails))
    await world.ended(1, after=before)
    return [one["subject"] for one in (await world.said())[before:] if one["type"] == "mail_received"]


@mail_world()
async def test_of_three_equal_mails_each_is_one(world: MailWorld) -> None:
    await world.add("a@example.com")
    await take_over(world, {}, {})
    assert await check(world, *(there(n, "Hello") for n in (1, 2, 3))) == ["Hello"]
    assert await check(world, *(there(n, "Hello") for n in (1, 2, 3))) == []
