"""The runtime's own messages and its reports about actors.

An `Envelope` is pykka's: a message and, for an ask, the future to answer. The runtime's orders are `Control`
envelopes. They go to the front of the inbox, and the inbox's limit does not apply to them.
"""

import enum
from typing import Any

import msgspec
from pykka._envelope import Envelope  # private: ActorRef.tell and ask make these

__all__ = [
    "Control",
    "DeadLetter",
    "Envelope",
    "Order",
    "Reason",
    "Urgent",
]


class Order(enum.Enum):
    """The runtime's orders to an actor."""

    START = enum.auto()
    STOP_NOW = enum.auto()


class Control(Envelope[Any]):
    """Carries an `Order`. It overtakes messages of users."""

    __slots__ = ()


class Urgent(Control):
    """Carries a message of `tell_urgent` that could not be handled at once."""

    __slots__ = ()


class Reason(enum.StrEnum):
    """Why an actor ended."""

    STOPPED = "stopped"
    FAILED = "failed"
    GAVE_UP = "gave up"
    IDLE = "idle"


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that was not handled and whose sender was not told. Only type names, no content."""

    actor: str
    message: str
    reason: str
