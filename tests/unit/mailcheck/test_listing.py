"""`get_all_emails` by pages, as its users call it, and how pages wait for their order."""

from typing import Any

from huahuo.actors.entities.entity import Query
from huahuo.mailcheck.api.mailbox_list import ORDERS_MAX
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


@mail_world()
async def test_a_roster_keeps_few_orders(world: MailWorld) -> None:
    await filled(world, "a")
    for sort in ("id", "email", "status", "mail_count", "email"):
        assert emails(await walked(world, sort=sort)) == ["a"]
    kept = await world.directory.ask("roster", 7, Query(lambda _, state: list(state.views.watchers)))
    assert kept == ["mail_count", "email"]
    assert len(kept) == ORDERS_MAX
