"""What timers of several entities decide at one moment is in one append, and each has its own causes."""

from pathlib import Path

import pytest
from msgspec import Struct

from huahuo import (
    After,
    Command,
    Context,
    Decision,
    Effect,
    EffectRun,
    Entity,
    Event,
    Huahuo,
    Outcome,
)
from huahuo.replay.history.history import ListHistory, effects, events_of, siblings, why
from huahuo.testing.world import AppWorld

BILLS = 3


class Written(Event, type="bill_written"):
    """It is to be paid within an hour."""


class Overdue(Event, type="bill_overdue"):
    """It was not."""


class Reminded(Event, type="bill_reminded"):
    """The debtor has a letter."""


class Bill(Struct, frozen=True):
    """Nothing of it is remembered."""


class WriteBill(Command, action="write_bill", creates=True):
    """By the shop."""


class Remind(Command):
    """Sent by a timer."""


class Letter(Effect, name="letter"):
    """To the debtor."""


def bills() -> Entity[Bill]:
    bill = Entity("bill", Bill)

    @bill.evolve
    def written(state: Bill, event: Written) -> Bill:
        del event
        return state

    @bill.evolve
    def overdue(state: Bill, event: Overdue) -> Bill:
        del event
        return state

    @bill.evolve
    def reminded(state: Bill, event: Reminded) -> Bill:
        del event
        return state

    @bill.decide
    def write(state: Bill, command: WriteBill, ctx: Context) -> Outcome:
        del state, command, ctx
        return Decision([Written()], effects=[After(3600, Remind())])

    @bill.decide
    def remind(state: Bill, command: Remind, ctx: Context) -> Outcome:
        del state, command, ctx
        return Decision([Overdue()], effects=[Letter()])

    @bill.effect
    async def letter(effect: Letter, run: EffectRun) -> None:
        del effect
        await run.emit(Reminded())

    return bill


@pytest.fixture
def whole(tmp_path: Path) -> ListHistory:
    """The history of some bills that are overdue at one moment."""
    world = AppWorld(Huahuo(entities=[bills()]), tmp_path / "data")
    for _ in range(BILLS):
        world.send(WriteBill())
    world.advance(hours=2)

    async def read() -> ListHistory:
        log = world.running.log
        return ListHistory([e async for e in events_of(log, "log", 0, log.position)], log.log_id)

    history = world.run(read())
    world.close()
    return history


def kept(history: ListHistory) -> ListHistory:
    """The history after `compact`, which takes the firings away."""
    return ListHistory([e for e in history.events if e.type != "timer_fired"], history.log_id)


async def test_what_each_timer_decided_leads_to_what_it_began_and_back(whole: ListHistory) -> None:
    for history in (whole, kept(whole)):
        firings = ["timer_fired"] if history is whole else []
        found = [e for e in history.events if e.type == "bill_overdue"]
        assert len(found) == BILLS
        for overdue in found:
            beside = await siblings(history, overdue)
            assert [e.type for e in beside] == ["effect_requested", *firings]
            assert {e.entity for e in beside} == {overdue.entity}
            began = [link.event async for link in effects(history, overdue, limit=9)]
            assert [(e.entity, e.type) for e in began] == [
                (overdue.entity, "bill_reminded"), (overdue.entity, "effect_ended"),
            ]  # fmt: skip
            first, _ = await why(history, began[0])
            assert [e.type for e in first.siblings] == ["bill_overdue", *firings]
