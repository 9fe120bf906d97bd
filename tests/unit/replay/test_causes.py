"""Why an event happened and what came of it."""

from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history.history import ListHistory, why
from tests.support.worlds.replaying import tell

HISTORY = tell().history


def event(type_: str, entity: str, **fields: str) -> StoredEvent:
    return next(
        e
        for e in HISTORY.events
        if e.type == type_ and e.entity == entity and all(v.encode() in e.body for v in fields.values())
    )


async def test_a_cause_that_is_not_kept_any_more_ends_the_chain() -> None:
    cut = ListHistory(HISTORY.events[-3:], "cut")
    chain = await why(cut, cut.events[-1])
    assert [link.event for link in chain] == [cut.events[-1]]
