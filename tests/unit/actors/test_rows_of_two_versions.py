"""Rows of two versions of an application on nodes of one log: the version that was made final writes them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import Struct

from huahuo import Command, Context, Entity, Event, Outcome, Put
from huahuo.actors.domain import projections
from huahuo.eventstore.replicated.writer import ReplicaWriter
from tests.support.worlds.effects import Works, on_nodes
from tests.support.worlds.scenario import scenario

ACCOUNTS = 40


class Paid(Event, type="account_paid"):
    cents: int


class Account(Struct, frozen=True):
    cents: int = 0


class Pay(Command, action="pay_account", creates=True):
    cents: int


def in_cents(state: Account, key: int) -> list[Put]:
    return [Put("sums", "", f"{key:04d}", state.cents)]


def in_euros(state: Account, key: int) -> list[Put]:
    return [Put("sums", "euros", f"{key:04d}", state.cents // 100)]


def accounts(rows: Any) -> Entity[Account]:
    account = Entity("account", Account)

    @account.evolve
    def paid(state: Account, event: Paid) -> Account:
        return Account(state.cents + event.cents)

    @account.decide
    def pay(state: Account, command: Pay, ctx: Context) -> Outcome:
        return [Paid(command.cents)]

    account.rows("sums")(rows)
    return account


async def sums(node: Works) -> dict[str, list[int]]:
    found = {part: await node.log.rows("app:sums", part, limit=1000) for part in ("", "euros")}
    return {part: sorted(int(value) for _, value in rows) for part, rows in found.items() if rows}


def of_two_versions(test: Callable[[Works, Works], Awaitable[None]]) -> None:
    """The nodes `older` and `newer`. The older one was there first, so its version writes the rows."""

    async def run(older: Works, newer: Works) -> None:
        await test(older, newer)
        await asyncio.sleep(1)
        assert await sums(older) == await sums(newer)

    on_nodes(run, lambda node: node.open([accounts(in_cents if node.node == "a" else in_euros)]))


def finalize(node: Works) -> Awaitable[None]:
    return projections.finalize(node.log, node.engine.api.catalog, now_ms=1, by="user/1")


@scenario(of_two_versions)
async def test_rows_are_written_by_the_version_that_is_final_and_made_anew_by_the_next_one(
    older: Works, newer: Works
) -> None:
    await older.send("pay_account", cents=10_000)
    await asyncio.sleep(1)
    await newer.send("pay_account", cents=500)
    await asyncio.sleep(1)
    assert await sums(older) == {"": [10_000]}, "the newer one is not final yet"
    await finalize(newer)
    assert await sums(newer) == {"euros": [5, 100]}
    await older.send("pay_account", cents=700)
    await asyncio.sleep(1)
    assert await sums(newer) == {"euros": [5, 100]}, "the older one is final no more"
    assert await projections.outdated(newer.log, newer.engine.api.catalog) == ["sums"]


@scenario(of_two_versions)
async def test_a_table_is_made_anew_while_both_nodes_write_it(older: Works, newer: Works) -> None:
    paid = [older.send("pay_account", cents=100 * n) for n in range(ACCOUNTS)]
    await asyncio.gather(*paid)
    await finalize(newer)  # now the newer one writes
    news = [newer.send("pay_account", cents=100 * (ACCOUNTS + n)) for n in range(ACCOUNTS)]
    catalog = newer.engine.api.catalog
    await asyncio.gather(projections.rebuild_rows(newer.log, "sums", catalog, now_ms=1), *news)
    assert (await sums(newer))["euros"] == list(range(2 * ACCOUNTS))


@scenario(of_two_versions)
async def test_what_was_decided_before_another_version_became_final_is_decided_again(
    older: Works, newer: Works, *, monkeypatch: pytest.MonkeyPatch
) -> None:
    await older.send("pay_account", cents=100)
    replica = older.log.writer
    assert isinstance(replica, ReplicaWriter)
    propose = replica.sequencer.propose

    async def later(proposal: bytes, id_: str) -> int:
        await asyncio.sleep(0.1)
        return await propose(proposal, id_)

    monkeypatch.setattr(replica.sequencer, "propose", later)
    late = asyncio.create_task(older.send("pay_account", cents=100))
    await asyncio.sleep(0.05)  # it is decided, and not ordered yet
    await finalize(newer)
    assert (await late)["type"] == "success"
    await asyncio.sleep(1)
    assert await sums(newer) == {"euros": [1]}, "no row of the older version was written"
    await projections.finish(newer.log, newer.engine.api.catalog, now_ms=1)
    assert await sums(newer) == {"euros": [1, 1]}
