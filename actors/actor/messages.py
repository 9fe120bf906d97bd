"""What the runtime itself puts into inboxes and tells about actors.

An `Envelope` is pykka's: a message and, for an ask, the future to answer. The runtime's own orders
are `Control` envelopes: they go to the front of the inbox and no bound applies to them.
"""

import enum
from typing import Any

import msgspec
from pykka import ActorRef
from pykka._envelope import Envelope  # private: ActorRef.tell and ask make these

__all__ = ["Control", "DeadLetter", "Envelope", "Escalated", "Order", "Reason", "Redelivered", "Terminated"]


class Order(enum.Enum):
    """What the runtime wants of an actor."""

    START = enum.auto()
    STOP_NOW = enum.auto()
    RESTART_NOW = enum.auto()


class Control(Envelope[Any]):
    """Carries an `Order` or an `Escalated`; overtakes what users sent."""

    __slots__ = ()


class Redelivered(Envelope[Any]):
    """A message that has already killed its actor once; a second time makes it a dead letter."""

    __slots__ = ()


class Reason(enum.StrEnum):
    """Why an actor is no more."""

    STOPPED = "stopped"
    FAILED = "failed"
    GAVE_UP = "gave up"
    IDLE = "idle"


class Escalated(msgspec.Struct, frozen=True):
    """A child's failure, handed to its parent as if it were the parent's own."""

    child: str
    error: BaseException


class Terminated(msgspec.Struct, frozen=True):
    """Tells a watcher that `ref` is dead, once for each watch."""

    ref: ActorRef[Any]
    reason: Reason


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that nobody handled and nobody was told about. Names of types only, no content."""

    actor: str
    message: str
    reason: str
