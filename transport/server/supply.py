"""What all connections of a server share to write: counters, and where snapshots and room come from."""

import msgspec

from huahuo.transport.server.budget import Budget, Estimates
from huahuo.transport.server.pictures import Pictures
from huahuo.transport.server.turns import Turns


class Tally:
    """What all connections wrote since the last look. Plain numbers, because they change often."""

    __slots__ = ("events", "size_bytes")

    def __init__(self) -> None:
        self.events = 0
        self.size_bytes = 0


class Supply(msgspec.Struct, frozen=True, kw_only=True):
    """Shared by all pumps of a server: the source of snapshots, the budget, and the turns of the users."""

    pictures: Pictures
    budget: Budget
    estimates: Estimates
    turns: Turns
