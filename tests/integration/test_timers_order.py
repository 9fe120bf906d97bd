"""Timers of one entity that are due together: they fire in the order in which they are due."""

from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from huahuo import After, CancelEffects, Command, Context, Decision, Entity, Event, Every, Huahuo, Outcome
from huahuo.testing.world import AppWorld

DAY_S = 86_400


class Opened(Event, type="sale_opened"):
    """It can be bought from."""


class Reminded(Event, type="sale_reminded"):
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


class Remind(Command):
    """Sent by a timer, each day."""


def sales() -> Entity[Sale]:
    sale = Entity("sale", Sale)

    @sale.evolve
    def opened(state: Sale, event: Opened) -> Sale:
        del event
        return replace(state, is_open=True)

    @sale.evolve
    def reminded(state: Sale, event: Reminded) -> Sale:
        del event
        return replace(state, reminded=state.reminded + 1)

    @sale.evolve
    def closed(state: Sale, event: Closed) -> Sale:
        del event
        return replace(state, is_open=False)

    @sale.decide
    def open_(state: Sale, command: Open, ctx: Context) -> Outcome:
        del state, command, ctx
        return Decision([Opened()], effects=[Every(DAY_S, Remind()), After(4 * DAY_S, Close())])

    @sale.decide
    def remind(state: Sale, command: Remind, ctx: Context) -> Outcome:
        del state, command, ctx
        return [Reminded()]

    @sale.decide
    def close(state: Sale, command: Close, ctx: Context) -> Outcome:
        del state, command, ctx
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
