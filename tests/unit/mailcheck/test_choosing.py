"""Commands about all mailboxes that a filter admits, and which mailboxes failed and why."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

from huahuo.mailcheck.api.mailbox_list import failures_of
from huahuo.mailcheck.records import Row
from huahuo.mailcheck.servers.faults import KINDS
from tests.support.models.mail_book import USER
from tests.support.worlds.mail_world import MailWorld, mail_world

MANY = 1_203
"""More than two parts of 500."""


async def import_many(world: MailWorld) -> None:
    lines = "\n".join(f"m{n}@example.com----canary-{n}" for n in range(1, MANY + 1))
    await world.do("import_emails", data=lines, mail_type="imap")


@mail_world()
async def test_of_a_users_commands_with_a_filter_each_waits_for_the_one_before(world: MailWorld) -> None:
    await import_many(world)
    under_way, most, hold = 0, 0, world.directory.hold

    @contextlib.contextmanager
    def counted(kind: str, key: str | int, size: int) -> Iterator[None]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        with hold(kind, key, size):
            yield
        under_way -= 1

    world.directory.hold = counted  # type: ignore[method-assign]
    asked = [world.do("label_emails", filter={}, note=f"note {n}") for n in range(5)]
    replies = await asyncio.gather(*asked)
    assert [len(reply["email_ids"]) for reply in replies] == [MANY] * 5
    assert most == 1
    assert {row["note"] for row in (await world.rows()).values()} == {"note 4"}


@mail_world()
async def test_a_repeated_command_with_a_filter_does_nothing_again(world: MailWorld) -> None:
    await import_many(world)
    first = await world.do("label_emails", command_id="c1", filter={}, add_tags=["x"])
    head = world.log.head(f"user/{USER}").seq
    again = await world.do("label_emails", command_id="c1", filter={}, add_tags=["x"])
    assert (again["email_ids"], world.log.head(f"user/{USER}").seq) == (first["email_ids"], head)


def _row(number: int, status: str, message: str, error_class: str = "") -> Row:
    fields: dict[str, Any] = {
        "id": number, "user_id": 7, "email": f"m{number}@x.com", "mail_type": "imap", "server": "x.com",
        "port": 993, "use_ssl": True, "created_at": "", "status": status, "message": message,
    }  # fmt: skip
    return Row(**fields, error_class=error_class or msgspec.UNSET)


def test_failures_are_counted_by_reason_without_the_servers_words() -> None:
    refused, lost = KINDS["login_refused"], KINDS["lost"]
    rows = [
        _row(1, "need_reauth", f"{refused.message}: NO [AUTHENTICATIONFAILED] m1", "auth"),
        _row(2, "need_reauth", f"{refused.message}: NO [AUTHENTICATIONFAILED] m2", "auth"),
        _row(3, "error", lost.message, lost.error_class),
        _row(4, "ok", "没有找到新邮件"),
    ]
    found = failures_of(rows, mailboxes_max=1)
    assert (found.total, [(one.count, one.email_ids) for one in found.data]) == (3, [(2, [1]), (1, [3])])
    assert (found.data[0].message, found.data[0].advice) == (refused.message, refused.advice)
