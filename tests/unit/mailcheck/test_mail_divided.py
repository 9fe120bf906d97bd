"""Checks, watching and purges over several nodes: each mailbox is one node's, wherever it was asked for."""

import asyncio
from typing import Any

import pytest

from huahuo.actors.entities.rendezvous_hash import Share
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append, RowDrop
from huahuo.mailcheck.checks.check_effect import CheckFailed
from huahuo.mailcheck.records import MAIL, MAILS, PURGES, WATCHED
from huahuo.mailcheck.servers.faults import outcome_of
from huahuo.mailcheck.servers.providers import ProviderOptions, Providers
from tests.support.models.mail_book import mail
from tests.support.worlds.mail_nodes import BOTH, POLL_S, both, on_nodes
from tests.support.worlds.mail_world import MailWorld, ScriptedCheck, tables

MANY = 12
TIGHT = Providers({"tight": ProviderOptions(hosts=("imap.tight.example:993",), connections_max=2)})


async def begun(node: MailWorld, seconds: float = 0.0) -> list[ScriptedCheck]:
    """What began on a node since it was asked last, and in the next seconds. None of it ends."""
    await asyncio.sleep(seconds)
    return [await node.script.next() for _ in range(node.script.begun)]


async def end(*checks: ScriptedCheck) -> None:
    for check in checks:
        check.finish()
    await asyncio.sleep(0.5)


async def added(node: MailWorld, count: int = MANY, **fields: Any) -> list[int]:
    return [await node.add(f"{n}@x.example", **fields) for n in range(count)]


def mine(numbers: list[int], node: str) -> list[int]:
    return [number for number in numbers if Share(node, BOTH).has(f"mailbox/{number}")]


def test_a_check_of_a_node_that_has_no_part_any_more_runs_on_the_other() -> None:
    async def test(one: MailWorld, other: MailWorld) -> None:
        [number] = await added(one, 1)
        await both(one, other, "a")
        await one.do("check_emails", email_ids=[number])
        [first] = await begun(one, 1)
        await both(one, other, "b")
        [second] = await begun(other, 3)
        assert first.cancelled.is_set()
        await second.mails(mail(1))
        await end(second)
        assert (await one.rows())[number]["status"] == "ok"

    on_nodes(test)


def test_watching_moves_with_the_part_and_goes_on_when_it_comes_back() -> None:
    async def test(one: MailWorld, other: MailWorld) -> None:
        numbers = await added(one)
        await one.do("watch_emails", email_ids=numbers, on=True)
        await both(one, other, *BOTH)
        looks = await begun(one, 90)
        await both(one, other, "b")
        assert all(look.cancelled.is_set() for look in looks)
        assert (one.mail.watching.count, other.mail.watching.count) == (0, MANY)
        await both(one, other, *BOTH)
        again = await begun(one, 90)
        assert len(again) == len(mine(numbers, "a"))

    on_nodes(test, checks_per_host_max=MANY)


def test_a_watcher_that_waits_for_its_sign_in_hears_of_it_from_another_node() -> None:
    async def test(one: MailWorld, other: MailWorld) -> None:
        [number] = await added(one, 1)
        await one.do("watch_emails", email_ids=[number], on=True)
        await both(one, other, "a")
        [look] = await begun(one, 90)
        look.fail(CheckFailed(outcome_of("bad_credentials")))
        assert await begun(one, 10 * POLL_S) == []
        await other.do("update_email", email_id=number, password="another")
        assert len(await begun(one, 2)) == 1

    on_nodes(test)


@pytest.mark.parametrize("how", ["unread", "missed"])
def test_a_watcher_that_waits_for_its_sign_in_hears_of_it_although_the_log_failed_or_an_event_was_missed(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(one: MailWorld, other: MailWorld) -> None:
        [number] = await added(one, 1)
        await one.do("watch_emails", email_ids=[number], on=True)
        await both(one, other, "a")
        [look] = await begun(one, 90)
        look.fail(CheckFailed(outcome_of("bad_credentials")))
        assert await begun(one, 10 * POLL_S) == []
        row, extend = one.log.row, one.feed._tail.extend  # noqa: SLF001
        fails = [Unavailable("for a moment")]

        async def failing(table: str, part: str, key: bytes) -> bytes | None:
            if table == WATCHED and fails:
                raise fails.pop()
            return await row(table, part, key)

        if how == "unread":
            monkeypatch.setattr(one.log, "row", failing)
        else:
            monkeypatch.setattr(one.feed._tail, "extend", lambda events: extend(events) and None)  # noqa: SLF001
        await other.do("update_email", email_id=number, password="another")
        assert len(await begun(one, 10)) == 1

    on_nodes(test)


def test_mailboxes_of_a_provider_with_a_bound_are_watched_by_the_node_with_the_work() -> None:
    async def test(one: MailWorld, other: MailWorld) -> None:
        numbers = await added(one, server="imap.tight.example")
        await one.do("watch_emails", email_ids=numbers, on=True)
        await both(one, other, *BOTH)
        assert (one.mail.watching.count, other.mail.watching.count) == (0, 0)
        await other.mail.work()
        assert (one.mail.watching.count, other.mail.watching.count) == (0, MANY)
        await other.mail.rest()
        await one.mail.work()
        assert (one.mail.watching.count, other.mail.watching.count) == (MANY, 0)

    on_nodes(test, providers=TIGHT)


def test_a_watcher_that_left_a_mailbox_alone_hears_of_a_check_that_succeeded_on_another_node() -> None:
    async def test(one: MailWorld, other: MailWorld) -> None:
        [number] = await added(one, 1, server="imap.tight.example")
        await one.do("watch_emails", email_ids=[number], on=True)
        await both(one, other, "b")
        await one.mail.work()
        [look] = await begun(one, 90)
        look.fail(CheckFailed(outcome_of("no_folder")))
        assert await begun(one, POLL_S) == []
        await one.do("check_emails", email_ids=[number])
        await end(*await begun(other, 2))
        assert len(await begun(one, 2)) == 1

    on_nodes(test, providers=TIGHT)


MAILS_MANY = 450
"""More than two pages of a purge."""


async def _filled(one: MailWorld, other: MailWorld, *mails: int) -> list[int]:
    """Mailboxes with as many mails each. The contents are those of the first mailbox."""
    await both(one, other, "a")
    numbers: list[int] = []
    for count in mails:
        numbers.append(await one.add(f"{len(numbers)}@x.example"))
        await one.do("check_emails", email_ids=numbers[-1:])
        check = await one.script.next()
        await check.mails(*(mail(n) for n in range(1, count + 1)))
        check.finish(count)
        await one.ended(numbers[-1])
    return numbers


async def _purged(node: MailWorld) -> None:
    """Until no purge is open as this node sees it."""
    async with asyncio.timeout(60):
        while await node.log.rows(PURGES, "", limit=1):  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.1)


def _drops(append: Append) -> bool:
    return any(isinstance(row, RowDrop) and row.table == MAIL for row in append.rows)


def test_a_purge_of_which_the_node_with_the_work_did_a_part_is_finished_by_the_next_one() -> None:
    async def test(one: MailWorld, other: MailWorld) -> None:
        [number] = await _filled(one, other, MAILS_MANY)
        await one.mail.work()
        pages, stuck = [0], asyncio.Event()

        def fails(append: Append) -> None:
            if _drops(append):
                pages[0] += 1
                if pages[0] > 1:
                    stuck.set()
                    raise Unavailable("it is cut off")

        one.log.before_append = fails
        await one.do("delete_emails", email_ids=[number])
        await stuck.wait()
        assert 0 < (await tables(one, number))[MAILS] < MAILS_MANY
        await other.mail.work()  # though the other one has not noticed yet that it lost it
        await _purged(other)
        assert not any((await tables(other, number)).values())
        await one.mail.rest()
        await _purged(one)

    on_nodes(test)
