"""Why an event happened and what came of it."""

from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history.history import ListHistory, effects, why
from tests.support.worlds.replaying import tell

HISTORY = tell().history


def event(type_: str, entity: str, **fields: str) -> StoredEvent:
    return next(
        e
        for e in HISTORY.events
        if e.type == type_ and e.entity == entity and all(v.encode() in e.body for v in fields.values())
    )


async def test_an_error_leads_back_to_the_command_that_asked_for_the_check() -> None:
    error = event("email_status_update", "mailbox/2", status='"error"')
    chain = await why(HISTORY, error)
    assert [link.event.type for link in chain] == ["check_requested", "email_status_update"]
    assert (chain[0].event.principal, chain[0].event.command_id) == ("user/7", "check-2")
    assert [link.depth for link in chain] == [0, 1]


async def test_effects_of_events_committed_with_the_cause_are_the_same() -> None:
    requested = event("check_requested", "mailbox/1")
    queued = event("email_status_update", "mailbox/1", status='"queued"')
    first = [link async for link in effects(HISTORY, requested, limit=100)]
    one, other = (len(first), len([link async for link in effects(HISTORY, queued, limit=100)]))
    assert one == other > 0


async def test_effects_stop_at_their_limit() -> None:
    assert len([1 async for _ in effects(HISTORY, event("check_requested", "mailbox/1"), limit=3)]) == 3


async def test_a_cause_that_is_not_kept_any_more_ends_the_chain() -> None:
    cut = ListHistory(HISTORY.events[-3:], "cut")
    chain = await why(cut, cut.events[-1])
    assert [link.event for link in chain] == [cut.events[-1]]
