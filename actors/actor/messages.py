"""The runtime's own messages and its reports about actors.

An `Envelope` is pykka's: a message and, for an ask, the future to answer. The runtime's orders are `Control`
envelopes. They go to the front of the inbox, and the inbox's limit does not apply to them.
"""

import enum
from typing import Any

import msgspec
from pykka import ActorRef
from pykka._envelope import Envelope  # private: ActorRef.tell and ask make these

__all__ = [
    "Control",
    "DeadLetter",
    "Envelope",
    "Escalated",
    "Order",
    "Reason",
    "Redelivered",
    "Terminated",
    "Urgent",
]


class Order(enum.Enum):
    """The runtime's orders to an actor."""

    START = enum.auto()
    STOP_NOW = enum.auto()
    RESTART_NOW = enum.auto()


class Control(Envelope[Any]):
    """Carries an `Order` or an `Escalated`. It overtakes messages of users."""

    __slots__ = ()


class Urgent(Control):
    """Carries a message of `tell_urgent` that could not be handled at once."""

    __slots__ = ()


class Redelivered(Envelope[Any]):
    """A message that has killed its actor once. If it does so again, it becomes a dead letter."""

    __slots__ = ()


class Reason(enum.StrEnum):
    """Why an actor ended."""

    STOPPED = "stopped"
    FAILED = "failed"
    GAVE_UP = "gave up"
    IDLE = "idle"


class Escalated(msgspec.Struct, frozen=True):
    """A child's failure, handled by its parent as the parent's own."""

    child: str
    error: BaseException


class Terminated(msgspec.Struct, frozen=True):
    """Tells a watcher that `ref` is dead, once for each watch."""

    ref: ActorRef[Any]
    reason: Reason


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that was not handled and whose sender was not told. Only type names, no content."""

    actor: str
    message: str
    reason: str
