"""How long and how many command records and acks are kept: the clock that ages them, and their bounds. Pure.

The clock may be slow, but a wrong wall clock cannot make it fast. Within a run it moves by the smaller of
what the wall clock and the monotonic clock moved; over a restart by what the wall clock moved, at most one
hour. So if the wall clock jumps a week ahead, no record is forgotten early. A machine that is switched off
for a week keeps its records longer than promised. The first commit of a log writes its note, so no record
is there without one: a restart would begin with whatever the wall clock shows then.

Records and acks lie on disk under ids that clients choose. Without a bound, one user could fill the disk
with ids that are used once.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable

import msgspec

RESTART_STEP_MS_MAX = 3600 * 1000
NOTE_EVERY_MS = 60_000
_TICK_MS = 1000


AGE_KEY = "command_age"
"""The key of the log's single value that is the last `AgeNote`, as JSON."""


class AgeNote(msgspec.Struct, frozen=True, array_like=True):
    """The time of this clock (`age_ms`) when the wall clock showed `wall_ms`."""

    age_ms: int
    wall_ms: int


class AgeClock:
    """Invariant: it never goes back, and never moves faster than the monotonic clock."""

    def __init__(self, note: AgeNote | None, wall_ms: int, monotonic_s: float) -> None:
        """Continue from `note`, or begin with the wall clock where there is none."""
        if note is None:
            self._age_ms = wall_ms
        else:
            self._age_ms = note.age_ms + min(max(wall_ms - note.wall_ms, 0), RESTART_STEP_MS_MAX)
        self._noted_ms = None if note is None else self._age_ms
        self._wall_ms = wall_ms
        self._monotonic_ms = monotonic_s * 1000

    def read(self, wall_ms: int, monotonic_s: float) -> int:
        """The time of this clock, given that of the other two. It moves once a second."""
        monotonic_ms = monotonic_s * 1000
        if monotonic_ms - self._monotonic_ms >= _TICK_MS:
            # Not more often: the minimum of small, rounded steps would be too small.
            step_ms = int(min(wall_ms - self._wall_ms, monotonic_ms - self._monotonic_ms))
            self._age_ms += max(step_ms, 0)
            self._wall_ms, self._monotonic_ms = wall_ms, monotonic_ms
        return self._age_ms

    def note_due(self) -> AgeNote | None:
        """The note to write with the next commit; None while the last one is less than a minute old."""
        if self._noted_ms is not None and self._age_ms - self._noted_ms < NOTE_EVERY_MS:
            return None
        return AgeNote(self._age_ms, self._wall_ms)

    def noted(self, note: AgeNote) -> None:
        """Record that the commit with `note` is durable."""
        self._noted_ms = note.age_ms


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
