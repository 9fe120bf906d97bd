"""Checks as durable effects: their turns, their stop, and what they leave in the log."""

import asyncio
from typing import Any

from huahuo.mailcheck.records import CHECKS
from tests.support.models.mail_book import USER, mail
from tests.support.worlds.mail_world import MailWorld, in_mail_world

OTHER = USER + 1


async def add_many(world: MailWorld, count: int, user_id: int, **fields: Any) -> list[int]:
    """The ids of new mailboxes of one user at one server."""
    return [await world.add(f"{n}@u{user_id}.example", user_id, **fields) for n in range(count)]


def test_users_take_turns_at_a_server_that_both_wait_for() -> None:
    async def test(world: MailWorld) -> None:
        many = await add_many(world, 8, USER, server="busy.example.com")
        one = await add_many(world, 1, OTHER, server="busy.example.com")
        await world.do("check_emails", email_ids=many)
        await world.do("check_emails", OTHER, email_ids=one)
        begun = []
        for _ in range(9):
            check = await world.script.next()
            begun.append(check.target.user)
            check.finish()
        await world.mail.idle()
        assert begun.index(f"0@u{OTHER}.example") <= 2
        assert world.script.running_peak == 1

    in_mail_world(test, checks_per_host_max=1)


def test_a_host_is_one_whatever_the_case_of_its_name() -> None:
    async def test(world: MailWorld) -> None:
        await world.add("a@example.com", server="imap.example.com")
        await world.add("b@example.com", server="IMAP.example.com")
        await world.do("check_emails", email_ids=[1, 2])
        for _ in range(2):
            (await world.script.next()).finish()
        await world.mail.idle()
        assert world.script.running_peak == 1

    in_mail_world(test, checks_per_host_max=1)


def test_checks_of_a_user_over_its_share_wait_while_anothers_begin() -> None:
    async def test(world: MailWorld) -> None:
        late, soon = await add_many(world, 1, USER), await add_many(world, 1, OTHER)
        world.owed_until_s[USER] = asyncio.get_running_loop().time() + 5.0
        await world.do("check_emails", email_ids=late)
        await world.do("check_emails", OTHER, email_ids=soon)
        first = await world.script.next()
        await asyncio.sleep(4)
        assert (first.target.user, world.script.begun) == (f"0@u{OTHER}.example", 0)
        assert list(world.mail.checks_by_user()) == [(OTHER, 1)]
        second = await world.script.next()
        first.finish()
        second.finish()
        await world.mail.idle()

    in_mail_world(test)


def test_a_stop_lets_a_check_end_and_the_next_start_begins_those_that_waited() -> None:
    async def test(world: MailWorld) -> None:
        first, _ = await add_many(world, 2, USER)
        await world.do("check_emails", email_ids=[1, 2])
        check = await world.script.next()
        asyncio.get_running_loop().call_later(3, check.finish)
        await world.restart(drain_s=5)
        assert (await world.rows())[first]["status"] == "ok"
        (await world.script.next()).finish()
        await world.mail.idle()
        assert {row["status"] for row in (await world.rows()).values()} == {"ok"}

    in_mail_world(test, checks_max=1)


def test_a_check_that_does_not_end_within_a_stop_stays_open_and_goes_on() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        await check.mails(mail(1))
        await world.restart(drain_s=5)
        assert check.cancelled.is_set()
        again = await world.script.next()
        assert again.since is not None
        assert again.since.uid == 1
        again.finish(1)
        await world.ended(1)

    in_mail_world(test)


def test_a_check_costs_the_commits_of_what_it_says_and_is_recorded_nowhere_else() -> None:
    async def test(world: MailWorld) -> None:
        await world.add()
        commits: list[list[str]] = []
        world.log.before_append = lambda append: commits.append(
            [f"{event.stream} {event.type}" for event in append.events]
        )
        await world.do("check_emails", email_ids=[1])
        check = await world.script.next()
        [(_, row)] = await world.log.rows(CHECKS, "", limit=2)
        await check.mails(mail(1))
        check.finish(1)
        await world.mail.idle()
        assert row == b'{"user_id":7,"check_id":1,"host":"imap.example.com"}'
        assert commits == [
            ["user/7 email_status_update", "mailbox/1 check_requested"],
            ["mailbox/1 check_started", "user/7 email_status_update", "user/7 check_progress"],
            ["user/7 mail_received", "mailbox/1 cursor_moved"],
            ["user/7 check_progress", "user/7 email_status_update", "mailbox/1 check_ended"],
        ]
        assert await world.log.rows(CHECKS, "", limit=2) == []

    in_mail_world(test)
