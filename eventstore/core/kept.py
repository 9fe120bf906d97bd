"""Bounds on command records and acks, which are kept on disk under ids that clients choose. Pure counting.

Without a bound, one user could fill the disk with ids that are used once.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable

import msgspec

COMMAND_RECORDS_MAX = 2_000_000
ACK_CLIENTS_MAX = 100_000

type Client = tuple[str, str]
"""A user and one of its client ids."""


class KeptLimits(msgspec.Struct, frozen=True):
    """Beyond these bounds, the oldest command records and the longest unused clients are forgotten."""

    command_records_per_user: int = 100_000
    command_records_max: int = COMMAND_RECORDS_MAX
    ack_clients_per_user: int = 256
    ack_clients_max: int = ACK_CLIENTS_MAX


DEFAULT_LIMITS = KeptLimits()


class AckClients:
    """The clients that have acks, the longest unused first."""

    def __init__(self, limits: KeptLimits, clients: Iterable[Client] = ()) -> None:
        self._limits = limits
        self._all: OrderedDict[Client, None] = OrderedDict.fromkeys(clients)
        self._users: dict[str, OrderedDict[str, None]] = {}
        for user, client in self._all:
            self._users.setdefault(user, OrderedDict())[client] = None

    def __len__(self) -> int:
        return len(self._all)

    def use(self, user: str, client: str) -> list[Client]:
        """Note that `client` acks; returns the clients to forget to make room for it."""
        key = (user, client)
        if key in self._all:
            self._all.move_to_end(key)
            self._users[user].move_to_end(client)
            return []
        mine = self._users.setdefault(user, OrderedDict())
        self._all[key] = mine[client] = None
        gone = []
        if len(mine) > self._limits.ack_clients_per_user:
            gone.append((user, next(iter(mine))))
        elif len(self._all) > self._limits.ack_clients_max:
            gone.append(next(iter(self._all)))
        for one in gone:
            self._forget(one)
        return gone

    def _forget(self, key: Client) -> None:
        user, client = key
        del self._all[key]
        mine = self._users[user]
        del mine[client]
        if not mine:
            del self._users[user]


class CommandCounts:
    """How many command records each user has."""

    def __init__(self, limits: KeptLimits, counts: Iterable[tuple[str, int]] = ()) -> None:
        self._limits = limits
        self._users = Counter(dict(counts))
        self.total = self._users.total()
        self.over: dict[str, int] = {}
        """Users over their bound, each with the number of records beyond it."""
        for user in list(self._users):
            self.add(user, 0)

    @property
    def too_many(self) -> int:
        """How many records there are beyond the bound for all users together."""
        return max(0, self.total - self._limits.command_records_max)

    def add(self, user: str, count: int) -> None:
        """Count `count` more records of `user`; fewer if it is negative."""
        self._users[user] += count
        self.total += count
        excess = self._users[user] - self._limits.command_records_per_user
        if excess > 0:
            self.over[user] = excess
        elif user in self.over:
            del self.over[user]
        if self._users[user] <= 0:
            del self._users[user]
