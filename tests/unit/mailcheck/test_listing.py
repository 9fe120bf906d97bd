"""`get_all_emails` by pages, as its users call it, and how pages wait for their order."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from huahuo.actors.entities.entity import Query
from huahuo.mailcheck.api import mailbox_list
from huahuo.mailcheck.api.mailbox_list import ORDERS_MAX, Order
from huahuo.mailcheck.records import Row
from tests.support.worlds.mail_world import MailWorld, mail_world


async def filled(world: MailWorld, *names: str) -> None:
    for name in names:
        await world.add(f"{name}@example.com")


async def walked(world: MailWorld, **fields: Any) -> list[dict[str, Any]]:
    """Every page, in the way that `next` leads."""
    pages = [await world.do("get_all_emails", **fields)]
    while pages[-1]["next"] is not None:
        pages.append(await world.do("get_all_emails", **fields, before=pages[-1]["next"]))
    return pages


def emails(pages: list[dict[str, Any]]) -> list[str]:
    return [row["email"].partition("@")[0] for page in pages for row in page["data"]]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [("id", "Cab"), ("-id", "baC"), ("email", "abC"), ("-email", "Cba"), ("created_at", "Cab")],
)
@mail_world()
async def test_an_order_goes_both_ways_and_addresses_have_no_case(
    world: MailWorld, sort: str, expected: str
) -> None:
    await filled(world, "C", "a", "b")
    assert "".join(emails(await walked(world, limit=1, sort=sort))) == expected
    assert "".join(emails(await walked(world, sort=sort))) == expected


@mail_world()
async def test_all_that_a_filter_gives_must_hold(world: MailWorld) -> None:
    await filled(world, "anna", "Bert", "hannah")
    await world.mail.report_status(3, "processing", "")

    async def found(**given: Any) -> list[str]:
        return emails(await walked(world, filter=given, limit=1))

    assert await found(text="ANNA") == ["anna", "hannah"]
    assert await found(text="anna", status="processing") == ["hannah"]
    assert await found(status=["idle", "processing"], mail_type="imap") == ["anna", "Bert", "hannah"]
    assert await found(mail_type=["gmail"]) == []
    assert await found() == ["anna", "Bert", "hannah"]
    [page] = await walked(world, filter={"text": "nobody"})
    assert (page["data"], page["total"], page["next"]) == ([], 3, None)


@pytest.mark.parametrize("sort", ["", "-", "password", "--id", "ID"])
@mail_world()
async def test_an_order_that_there_is_not_is_refused(world: MailWorld, sort: str) -> None:
    refused = await world.do("get_all_emails", sort=sort)
    assert (refused["type"], refused["code"]) == ("error", "invalid_field")
    assert "last_check_time" in refused["details"]


@mail_world()
async def test_a_before_that_is_no_next_of_this_order_is_refused(world: MailWorld) -> None:
    await filled(world, "a", "b")
    following = (await world.do("get_all_emails", limit=1, sort="email"))["next"]
    for before in ("", "zz", "7b7d", following, following + "00"):
        refused = await world.do("get_all_emails", limit=1, before=before)
        assert (refused["type"], refused["code"]) == ("error", "invalid_field"), before
    again = await world.do("get_all_emails", sort="-email", before=following)
    assert emails([again]) == [], "both ways of one order share their places"


@mail_world()
async def test_a_roster_keeps_few_orders(world: MailWorld) -> None:
    await filled(world, "a")
    for sort in ("id", "email", "status", "mail_count", "email"):
        assert emails(await walked(world, sort=sort)) == ["a"]
    kept = await world.directory.ask("roster", 7, Query(lambda _, state: list(state.views.watchers)))
    assert kept == ["mail_count", "email"]
    assert len(kept) == ORDERS_MAX


@mail_world()
async def test_pages_in_more_orders_than_are_kept_sort_at_most_once_each(
    world: MailWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Counted(Order):
        def __init__(self, field: str, rows: Sequence[Row]) -> None:
            made.append(field)
            super().__init__(field, rows)

    monkeypatch.setattr(mailbox_list, "Order", Counted)
    await world.add("a@example.com")
    fields = ["email", "status", "last_check_time", "id"] * 5
    pages = await asyncio.gather(*(world.do("get_all_emails", sort=field, limit=1) for field in fields))
    assert [page["type"] for page in pages] == ["emails_list"] * len(fields)
    assert len(made) <= len(fields)
