"""What all connections of a server share: where snapshots, and room to read and to write come from."""

import msgspec

from huahuo.transport.server.budget import Budget, Estimates
from huahuo.transport.server.intake import Intake
from huahuo.transport.server.pictures import Pictures
from huahuo.transport.server.turns import Turns


class Supply(msgspec.Struct, frozen=True, kw_only=True):
    """Shared by all pumps of a server: the source of snapshots, the budgets, and the turns of the users."""

    pictures: Pictures
    budget: Budget
    intake: Intake
    estimates: Estimates
    turns: Turns
