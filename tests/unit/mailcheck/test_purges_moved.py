"""Purges of removed mailboxes: the node with the work does them; the next one goes on where it stopped."""

import asyncio

import msgspec

from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.model import Append, RowDrop
from huahuo.mailcheck.records import MAIL, MAILS, PURGES
from tests.support.models.mail_book import mail
from tests.support.worlds.mail_nodes import BOTH, both, on_nodes
from tests.support.worlds.mail_world import MailWorld, tables

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


def test_a_mailbox_that_another_node_was_told_to_remove_is_purged_by_the_node_with_the_work() -> None:
    async def test(one: MailWorld, other: MailWorld) -> None:
        [number] = await _filled(one, other, 3)
        await one.mail.work()
        await other.do("delete_emails", email_ids=[number])
        await _purged(one)
        await _purged(other)
        assert not any((await tables(other, number)).values())

    on_nodes(test)


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


def test_two_nodes_that_both_purge_one_mailbox_release_each_content_once() -> None:
    async def test(one: MailWorld, other: MailWorld) -> None:
        first, second = await _filled(one, other, 3, 3)
        records = await one.log.rows(MAILS, str(first), limit=9)
        stored = [msgspec.json.decode(value)["blob"] for _, value in records]
        waits, both_came = [0], asyncio.Event()
        for node in (one, other):
            _together(node, waits, both_came)
            await node.mail.work()
        await one.do("delete_emails", email_ids=[first])
        await _purged(one)
        await _purged(other)
        assert waits[0] == len(BOTH), "each of them purged the page"
        assert None not in [await other.log.blob(blob) for blob in stored]
        both_came.clear()
        await other.do("delete_emails", email_ids=[second])
        await _purged(one)
        await _purged(other)
        assert [await other.log.blob(blob) for blob in stored] == [None] * len(stored)

    on_nodes(test)


def _together(node: MailWorld, waits: list[int], both_came: asyncio.Event) -> None:
    """Let the first page of a purge be written once both nodes are about to write it."""
    append_it, first = node.log.append, [True]

    async def append(one: Append) -> object:
        if _drops(one) and first[0]:
            first[0] = False
            waits[0] += 1
            if waits[0] == len(BOTH):
                both_came.set()
            await both_came.wait()
        return await append_it(one)

    node.log.append = append  # type: ignore[method-assign, assignment]
