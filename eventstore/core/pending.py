"""What waits for its group, what became of it, and whom it is charged to."""

import asyncio

import msgspec

from huahuo.eventstore.core.draft import Draft, Outcome
from huahuo.eventstore.core.fair_executor import Charge
from huahuo.eventstore.core.fair_queue import EVENT_COST, ITEM_BYTES
from huahuo.eventstore.core.seal import Prepared
from huahuo.eventstore.core.storage_port import Change
from huahuo.eventstore.model import Append, Appended, Duplicate, StoredEvent

PETTY_S = 50e-6
"""Smaller parts are not charged: in a group of many users, charging would cost as much as the part."""


type Written = Appended | Duplicate


class Pending(msgspec.Struct, frozen=True):
    """An append, or changes without one, that waits for its group."""

    append: Append | None
    changes: tuple[Change, ...]
    size: int
    done: asyncio.Future[Written]
    prepared: Prepared | None = None


class Commit(msgspec.Struct, frozen=True):
    """The result of a job: an outcome for each pending, and the new end of the log."""

    outcomes: list[Outcome]
    events: list[StoredEvent]
    newest: dict[str, StoredEvent]
    firsts: dict[str, int]
    ended: list[str]
    position: int
    chain: bytes
    wrote: bool
    spent_s: float


def decided(draft: Draft, pending: Pending) -> Outcome:
    """The outcome of one pending, which the group now holds."""
    if pending.append is None:
        draft.changes += pending.changes
        return Appended(draft.position, ())
    try:
        return draft.add(pending.append, pending.prepared)
    except Exception as error:  # noqa: BLE001  what cannot be decided fails alone
        return error


def bill(items: list[Pending], spent_s: float, charge: Charge) -> None:
    """Charge each principal for its part of the group, weighed as a turn in the queue is."""
    costs: dict[str, int] = {}
    for pending in items:
        append = pending.append
        if append is not None:
            cost = ITEM_BYTES + max(pending.size, EVENT_COST * len(append.events))
            costs[append.principal] = costs.get(append.principal, 0) + cost
    total = sum(costs.values())
    for principal, cost in costs.items():
        if (part_s := spent_s * cost / total) > PETTY_S:
            charge(principal, part_s)
