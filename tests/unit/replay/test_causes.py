"""Why an event happened and what came of it."""

import asyncio

from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history.causes import effects, siblings, why
from huahuo.replay.history.history import ListHistory
from tests.support.worlds.replaying import tell

HISTORY = tell().history


def event(type_: str, entity: str, **fields: str) -> StoredEvent:
    return next(
        e
        for e in HISTORY.events
        if e.type == type_ and e.entity == entity and all(v.encode() in e.body for v in fields.values())
    )


def test_an_error_leads_back_to_the_command_that_asked_for_the_check() -> None:
    error = event("email_status_update", "mailbox/2", status='"error"')
    chain = asyncio.run(why(HISTORY, error))
    assert [link.event.type for link in chain] == ["check_requested", "email_status_update"]
    assert (chain[0].event.principal, chain[0].event.command_id) == ("user/7", "check-2")
    assert [link.depth for link in chain] == [0, 1]


def test_what_a_command_began_is_everything_its_check_said_and_nothing_else() -> None:
    async def main() -> list[StoredEvent]:
        requested = event("check_requested", "mailbox/1")
        return [link.event async for link in effects(HISTORY, requested, limit=100)]

    found = asyncio.run(main())
    assert {e.entity for e in found} == {"mailbox/1"}
    assert found[-1].type == "check_ended"
    said = [e for e in HISTORY.events if e.entity == "mailbox/1" and e.principal == "service"]
    assert found == said


def test_effects_of_events_committed_with_the_cause_are_the_same() -> None:
    async def main() -> tuple[int, int]:
        requested = event("check_requested", "mailbox/1")
        queued = event("email_status_update", "mailbox/1", status='"queued"')
        first = [link async for link in effects(HISTORY, requested, limit=100)]
        return len(first), len([link async for link in effects(HISTORY, queued, limit=100)])

    one, other = asyncio.run(main())
    assert one == other > 0


def test_effects_stop_at_their_limit() -> None:
    async def main() -> int:
        return len([1 async for _ in effects(HISTORY, event("check_requested", "mailbox/1"), limit=3)])

    assert asyncio.run(main()) == 3


def test_siblings_are_what_the_same_append_wrote_about_the_same_entity() -> None:
    ended = event("check_ended", "mailbox/2")
    beside = asyncio.run(siblings(HISTORY, ended))
    assert [e.type for e in beside] == ["check_progress", "email_status_update"]


def test_a_cause_that_is_not_kept_any_more_ends_the_chain() -> None:
    cut = ListHistory(HISTORY.events[-3:], "cut")
    chain = asyncio.run(why(cut, cut.events[-1]))
    assert [link.event for link in chain] == [cut.events[-1]]
