"""Timers that are due together: their order, and what each of them caused."""

from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from huahuo import (
    After,
    CancelEffects,
    Command,
    Context,
    Decision,
    Effect,
    EffectRun,
    Entity,
    Event,
    Every,
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
        return state

    @bill.evolve
    def overdue(state: Bill, event: Overdue) -> Bill:
        return state

    @bill.evolve
    def reminded(state: Bill, event: Reminded) -> Bill:
        return state

    @bill.decide
    def write(state: Bill, command: WriteBill, ctx: Context) -> Outcome:
        return Decision([Written()], effects=[After(3600, Remind())])

    @bill.decide
    def remind(state: Bill, command: Remind, ctx: Context) -> Outcome:
        return Decision([Overdue()], effects=[Letter()])

    @bill.effect
    async def letter(effect: Letter, run: EffectRun) -> None:
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


DAY_S = 86_400


class Opened(Event, type="sale_opened"):
    """It can be bought from."""


class Nudged(Event, type="sale_reminded"):
    """Its owner was reminded."""


class Closed(Event, type="sale_closed"):
    """Nothing more is sold."""


class Sale(Struct, frozen=True):
    """The state."""

    is_open: bool = False
    reminded: int = 0


class Open(Command, action="open_sale", creates=True):
    """For four days."""


class Close(Command):
    """Sent by a timer."""


class Nudge(Command):
    """Sent by a timer, each day."""


def sales() -> Entity[Sale]:
    sale = Entity("sale", Sale)

    @sale.evolve
    def opened(state: Sale, event: Opened) -> Sale:
        return replace(state, is_open=True)

    @sale.evolve
    def reminded(state: Sale, event: Nudged) -> Sale:
        return replace(state, reminded=state.reminded + 1)

    @sale.evolve
    def closed(state: Sale, event: Closed) -> Sale:
        return replace(state, is_open=False)

    @sale.decide
    def open_(state: Sale, command: Open, ctx: Context) -> Outcome:
        return Decision([Opened()], effects=[Every(DAY_S, Nudge()), After(4 * DAY_S, Close())])

    @sale.decide
    def remind(state: Sale, command: Nudge, ctx: Context) -> Outcome:
        return [Nudged()]

    @sale.decide
    def close(state: Sale, command: Close, ctx: Context) -> Outcome:
        return Decision([Closed()], effects=[CancelEffects()])

    return sale


def test_what_an_earlier_timer_cancels_does_not_fire_although_its_entity_must_be_read_for_that(
    tmp_path: Path,
) -> None:
    world = AppWorld(Huahuo(entities=[sales()]), tmp_path / "data")
    world.send(Open())
    world.crash()  # so the entity does not know all of its timers
    world.advance(days=10)
    state, _ = world.state("sale", 1)
    assert state == Sale(is_open=False, reminded=3)  # the fourth is due at the moment of the close, behind it
    world.close()
