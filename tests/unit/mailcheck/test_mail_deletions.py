"""Cancelled checks, and deletions that leave nothing behind."""

import asyncio
from typing import Any

import msgspec

from huahuo.eventstore.errors import Unavailable
from huahuo.mailcheck.records import CHECKS, MAIL, MAILS, PURGES
from tests.support.models.mail_book import mail
from tests.support.worlds.mail_world import MailWorld, mail_world, tables


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
async def test_a_deletion_leaves_no_row_no_blob_and_no_key(world: MailWorld) -> None:
    await world.add()
    await world.do("check_emails", email_ids=[1])
    check = await world.script.next()
    await check.mails(*[mail(n) for n in range(1, 6)])
    records = (await world.do("get_mail_records", email_id=1))["data"]
    stored = [msgspec.json.decode(v)["blob"] for _, v in await world.log.rows(MAILS, "1", limit=9)]
    assert (len(records), await tables(world)) == (5, {MAILS: 5, MAIL: 5, CHECKS: 1, PURGES: 0})
    await world.do("delete_emails", email_ids=[1])
    assert (await world.do("get_mail", mail_id=records[0]["mail_id"]))["code"] == "not_found"
    await check.cancelled.wait()
    await world.mail.idle()
    assert not any((await tables(world)).values())
    assert [await world.log.blob(blob) for blob in stored] == [None] * 5
    assert await world.log.secret("mailbox/1", "password") is None


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


@mail_world()
async def test_a_purge_that_was_cut_short_goes_on_after_a_restart(world: MailWorld) -> None:
    def _no_purges(rows: tuple[Any, ...], tried: asyncio.Event) -> None:
        if any(row.table == MAIL for row in rows):
            tried.set()
            raise Unavailable("disk full")

    await world.add()
    await world.do("check_emails", email_ids=[1])
    check = await world.script.next()
    await check.mails(mail(1), mail(2))
    tried = asyncio.Event()
    world.log.before_append = lambda append: _no_purges(append.rows, tried)
    await world.do("delete_emails", email_ids=[1])
    await check.cancelled.wait()
    await tried.wait()
    assert (await tables(world))[PURGES] == 1
    await world.restart()
    await world.mail.idle()
    assert not any((await tables(world)).values())
