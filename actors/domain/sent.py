"""What goes into a decision of an entity and what comes out: a command on its way, and its answer. Pure."""

from typing import Any

from msgspec import Struct

from huahuo.actors.domain.decision import To
from huahuo.actors.domain.structs import Command, Event
from huahuo.actors.effects.facts import Guard
from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.actors.timers.timer import Timer


class Emit(Struct, frozen=True):
    """Events that a run of an effect appends: a decision that is made already."""

    events: tuple[Event | To, ...]


class Sent(Struct, frozen=True):
    """A command on its way to an entity. `who` is None for the service, timers and effects.

    `guard`: it comes from a run of an effect, and holds only while the run does. `payer`: for whom, if not
    for `who`, the effects of its decision will be. `timer`: the one that sends it. It ends, or moves to its
    next time, with whatever is decided. `trace`: the place in a trace of what it comes from, if that is
    not its id. `readable`: the application's `authorize` lets `who` read it.
    """

    command: Command | Emit
    who: Principal | None = None
    command_id: str = ""
    guard: Guard | None = None
    payer: UserId | None = None
    timer: Timer | None = None
    readable: bool = False
    trace: str = ""


class Done(Struct, frozen=True):
    """The answer of an entity: the JSON object of the reply. `refused`: it is an error.

    `moved`: the command's guard does not hold at this place of the books, so nothing was decided. `state`:
    that after the decision, for a run of an effect.
    """

    body: bytes
    refused: bool = False
    moved: bool = False
    state: Any = None
