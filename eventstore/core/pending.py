"""What waits for its group, what became of it, and whom it is charged to."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from huahuo.eventstore.core.carrying import carry
from huahuo.eventstore.core.changes import Change
from huahuo.eventstore.core.draft import Draft, Outcome
from huahuo.eventstore.core.fair_executor import Charge
from huahuo.eventstore.core.fair_queue import cost_of
from huahuo.eventstore.core.seal import Prepared, Vault
from huahuo.eventstore.model import Append, Appended, Duplicate, StoredEvent
from huahuo.eventstore.port import Hearer, Listener

PETTY_S = 50e-6
"""Smaller parts are not charged: in a group of many users, charging would cost as much as the part."""

_log = structlog.get_logger(__name__)

type Written = Appended | Duplicate


class Pending(msgspec.Struct, frozen=True):
    """An append, or changes without one, that waits for its group.

    Either the future `done` gets its outcome, or `hearer` does, with `about`.
    """

    append: Append | None
    changes: tuple[Change, ...]
    size: int
    done: asyncio.Future[Written] | None
    prepared: Prepared | None = None
    hearer: Hearer | None = None
    about: Any = None


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


def decided(draft: Draft, pending: Pending, vault: Vault) -> Outcome:
    """The outcome of one pending, which the group now holds. Its secrets are sealed at its turn."""
    append = pending.append
    if append is None:
        draft.changes += pending.changes
        return Appended(draft.position, ())
    try:
        if not (append.secrets or append.blobs):
            return draft.add(append)
        refused = draft.refusal(append)
        if refused is not None:
            return refused
        held = draft.wrapped_keys(put.owner for put in append.secrets)
        return draft.accept(append, carry(append, held, vault, pending.prepared))
    except Exception as error:  # noqa: BLE001  what cannot be decided fails alone
        return error


def tell_hearers(items: Sequence[Pending], outcomes: Sequence[Outcome]) -> None:
    """Tell each hearer what became of its appends."""
    heard: dict[Hearer, list[tuple[Any, Outcome]]] = {}
    for pending, outcome in zip(items, outcomes, strict=True):
        hearer = pending.hearer
        if hearer is not None:
            of_hearer = heard.get(hearer)
            if of_hearer is None:
                heard[hearer] = [(pending.about, outcome)]
            else:
                of_hearer.append((pending.about, outcome))
    for hearer, told in heard.items():
        try:
            hearer.heard(told)
        except Exception:  # noqa: BLE001  one bad hearer must not end the writer
            _log.exception("hearer_failed")


def bill(items: list[Pending], spent_s: float, charge: Charge) -> None:
    """Charge each principal for its part of the group, weighed as in the queue."""
    principals = {pending.append.principal for pending in items if pending.append is not None}
    if len(principals) == 1:  # nothing to divide
        if spent_s > PETTY_S:
            charge(principals.pop(), spent_s)
        return
    costs: dict[str, int] = {}
    for pending in items:
        append = pending.append
        if append is not None:
            cost = cost_of(len(append.events), pending.size)
            costs[append.principal] = costs.get(append.principal, 0) + cost
    total = sum(costs.values())
    for principal, cost in costs.items():
        if (part_s := spent_s * cost / total) > PETTY_S:
            charge(principal, part_s)


def tell_listeners(listeners: Sequence[Listener], events: Sequence[StoredEvent]) -> None:
    """Tell of durable events."""
    for listener in tuple(listeners) if events else ():
        try:
            listener(events)
        except Exception:  # noqa: BLE001  one bad listener must not end the writer
            _log.exception("listener_failed")
