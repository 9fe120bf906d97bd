"""What a simulated device keeps over its restarts, and how it behaves."""

from dataclasses import dataclass, field
from typing import Any

from tests.support.checkers.history import Asked, Follower


@dataclass(slots=True)
class Waiting:
    """A command without an answer: it is sent again, with the same id, until there is one."""

    asked: Asked
    action: str
    fields: dict[str, Any]
    sent: bool = False


@dataclass(slots=True)
class Habits:
    """How a device behaves."""

    admin: bool = False
    groups: tuple[str, ...] = ()
    window: int = 512
    slow_s: float = 0.0
    packed: bool = True
    no_websocket: bool = False
    """Its network lets no WebSocket through: it lives over plain HTTP and server-sent events."""
    ttl_s: float = 10_000_000.0


@dataclass
class Kept:
    """What survives a restart of the device."""

    followers: dict[str, Follower] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    outbox: list[Waiting] = field(default_factory=list)
    parcels: list[int] = field(default_factory=list)
    flyers: list[int] = field(default_factory=list)
    stamped: list[Waiting] = field(default_factory=list)
    """Commands of an action that newer code has no more, which were answered."""
    mailboxes: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    made: int = 0
