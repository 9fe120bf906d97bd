"""What all connections of a server share to write: where snapshots and room come from."""

import msgspec

from huahuo.transport.server.budget import Budget, Estimates
from huahuo.transport.server.pictures import Pictures
from huahuo.transport.server.turns import Turns


class Supply(msgspec.Struct, frozen=True, kw_only=True):
    """Shared by all pumps of a server: the source of snapshots, the budget, and the turns of the users."""

    pictures: Pictures
    budget: Budget
    estimates: Estimates
    turns: Turns
