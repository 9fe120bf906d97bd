"""Cancelled checks, and deletions that leave nothing behind."""

import asyncio

from tests.support.models.mail_book import mail
from tests.support.worlds.mail_world import MailWorld, mail_world


@mail_world(checks_per_host_max=50, commit_s=0.003)
async def test_a_check_that_keeps_reporting_cannot_hold_a_cancel_up(world: MailWorld) -> None:
    for n in range(50):
        await world.add(f"{n}@example.com")
    ids = list(range(1, 51))
    await world.do("check_emails", email_ids=ids)
    checks = [await world.script.next() for _ in ids]

    async def report(number: int) -> None:
        for uid in range(1, 1000):
            # Out of step with one another: in every commit there is a mailbox that moves.
            await asyncio.sleep(number * 0.000_13)
            await checks[number].mails(mail(uid))

    reports = [asyncio.create_task(report(n)) for n in range(50)]
    await asyncio.sleep(0.05)
    body = await world.do("cancel_check", email_ids=ids)
    assert sorted(body["cancelled"]) == ids
    for ended in await asyncio.gather(*reports, return_exceptions=True):
        assert isinstance(ended, Exception)


@mail_world()
async def test_heads_of_deleted_mailboxes_do_not_stay_in_memory_and_are_still_known(world: MailWorld) -> None:
    await world.add("kept@example.com")
    before = world.log.streams_in_memory
    for n in range(20):
        await world.do("delete_emails", email_ids=[await world.add(f"{n}@example.com")])
    await world.mail.idle()
    assert world.log.streams_in_memory == before
    assert all(world.log.head(f"mailbox/{n}").seq for n in range(1, 22))
    await world.restart()
    assert world.log.streams_in_memory == before
    assert len(world.log.streams("mailbox/")) == 21
