"""Which clients are connected to which node: what each node tells the others, and who gives way. Pure.

A node tells whole facts ("user 7 has three connections here, of these clients, since then"), so that the same
news twice, or news after a gap, do no harm. What a node has not heard is owed, and told when it is back.

When a client came is told by a clock that counts on: at least the node's own, and later than all that the
node has heard. So a client that moves to a node which has heard of it
is newer there, whatever the clocks say.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import msgspec

from huahuo.actors.plugins.principal import UserId

USERS_A_MESSAGE = 5000
BYTES_A_MESSAGE = 512 << 10
"""What is more goes with the next message, so each stays below the limit of a request."""
CLIENTS_A_USER = 2000
"""Of a user with more named clients on one node, the newest are told, and the number of all."""


class Here(msgspec.Struct, array_like=True):
    """A user's connections on one node. `clients`: when each client that has a name came."""

    count: int = 0
    clients: dict[str, int] = {}


class Told(msgspec.Struct, frozen=True):
    """What a node says. `whole`: this begins all that it has, and what was heard before counts no more.

    `number`: rises, so that news which was overtaken does not count. `asks`: it knows nothing of the node
    that it tells, and wants all of it.
    """

    process: str
    clock: int
    whole: bool
    users: list[tuple[UserId, Here]]
    number: int = 0
    asks: bool = False


class Heard(msgspec.Struct, frozen=True):
    """The answer. `whole`: the node knows nothing of the other one yet, and wants all of it."""

    whole: bool
    clock: int


class _Other(msgspec.Struct):
    """Another node: what it has, as far as it is known, and what it has not been told."""

    process: str = ""
    number: int = 0
    users: dict[UserId, Here] = {}
    owed: dict[UserId, None] = {}
    whole: bool = True
    """Whether it must be told everything from the beginning."""


class Presence:
    """See the module. `process`: a name of this life of the node."""

    def __init__(self, node: str, process: str, now_ms: Callable[[], int]) -> None:
        self._node = node
        self._process = process
        self._now_ms = now_ms
        self._clock = 0
        self._number = 0
        self._here: dict[UserId, Here] = {}
        self._others: dict[str, _Other] = {}
        self._elsewhere: Counter[UserId] = Counter()

    # This node's clients ------------------------------------------------------------------------------

    def joined(self, user: UserId, client: str) -> None:
        """A connection joined here."""
        self._clock = max(self._now_ms(), self._clock + 1)
        here = self._here.setdefault(user, Here())
        here.count += 1
        if client:
            here.clients[client] = self._clock
        self._owe(user)

    def parted(self, user: UserId, client: str) -> None:
        """It is here no more."""
        here = self._here[user]
        here.count -= 1
        here.clients.pop(client, None)
        if not here.count:
            del self._here[user]
        self._owe(user)

    def count(self, user: UserId, client: str) -> int:
        """The user's connections on other nodes, without those that give way: to `client`, or to one here."""
        count = self._elsewhere[user]
        if count:
            ours = _of(self._here, user).clients
            for node, other in self._others.items():
                for name, at in _of(other.users, user).clients.items():
                    mine = ours.get(name)
                    count -= name == client or (mine is not None and (at, node) < (mine, self._node))
        return count

    # Telling ------------------------------------------------------------------------------------------

    def owes(self, node: str) -> bool:
        """Whether `node` must be told something."""
        other = self._other(node)
        return other.whole or bool(other.owed)

    def next(self, node: str) -> Told:
        """What to tell `node` now. It counts as told: say `failed` if it was not."""
        other = self._other(node)
        whole = other.whole
        if whole:
            other.owed = dict.fromkeys(self._here)
            other.whole = False
        users: list[tuple[UserId, Here]] = []
        size = 0
        for user in other.owed:
            here = _newest(_of(self._here, user))
            size += len(msgspec.msgpack.encode((user, here)))
            if users and (size > BYTES_A_MESSAGE or len(users) == USERS_A_MESSAGE):
                break
            users.append((user, here))
        for user, _ in users:
            del other.owed[user]
        self._number += 1
        return Told(self._process, self._clock, whole, users, self._number, not other.process)

    def failed(self, node: str, told: Told) -> None:
        """`node` did not get it."""
        other = self._other(node)
        other.whole = other.whole or told.whole
        other.owed = dict.fromkeys(user for user, _ in told.users) | other.owed

    def answered(self, node: str, heard: Heard) -> None:
        """`node` got it."""
        self._clock = max(self._clock, heard.clock)
        if heard.whole:
            self._other(node).whole = True

    # Hearing ------------------------------------------------------------------------------------------

    def hear(self, node: str, told: Told) -> tuple[Heard, list[tuple[UserId, str]]]:
        """Another node's news; also which clients here give way, since they came to that node later."""
        self._clock = max(self._clock, told.clock)
        other = self._other(node)
        if told.asks:
            other.whole = True
        if not told.whole and other.process != told.process:
            return Heard(True, self._clock), []
        if other.process == told.process and told.number and told.number <= other.number:
            return Heard(False, self._clock), []
        other.number = told.number
        if told.whole:
            self._drop(other)
            other.process = told.process
        for user, there in told.users:
            self._count(user, there.count - _of(other.users, user).count)
            if there.count:
                other.users[user] = there
            else:
                other.users.pop(user, None)
        return Heard(False, self._clock), list(self._leaving(node, told.users))

    def forget(self, node: str) -> None:
        """That node is silent: its clients are on their way to others. It tells all when it is back."""
        other = self._others.pop(node, None)
        if other is not None:
            self._drop(other)

    def heard_of(self) -> list[str]:
        """The nodes whose clients count here."""
        return [node for node, other in self._others.items() if other.process]

    @property
    def known(self) -> Mapping[str, int]:
        """The nodes that were heard of, and the connections of each."""
        return {
            node: sum(here.count for here in other.users.values())
            for node, other in self._others.items()
            if other.process
        }

    def _leaving(self, node: str, told: Iterable[tuple[UserId, Here]]) -> Iterable[tuple[UserId, str]]:
        for user, there in told:
            ours = _of(self._here, user).clients
            for client, at in there.clients.items():
                mine = ours.get(client)
                if mine is not None and (mine, self._node) < (at, node):
                    yield user, client

    def _drop(self, other: _Other) -> None:
        for user, there in other.users.items():
            self._count(user, -there.count)
        other.users = {}
        other.process = ""

    def _count(self, user: UserId, more: int) -> None:
        count = self._elsewhere[user] + more
        if count > 0:
            self._elsewhere[user] = count
        else:
            del self._elsewhere[user]

    def _owe(self, user: UserId) -> None:
        for other in self._others.values():
            if not other.whole:
                other.owed[user] = None

    def _other(self, node: str) -> _Other:
        return self._others.setdefault(node, _Other())


def _newest(here: Here) -> Here:
    more = len(here.clients) - CLIENTS_A_USER
    return here if more <= 0 else Here(here.count, dict(islice(here.clients.items(), more, None)))


def _of(users: Mapping[UserId, Here], user: UserId) -> Here:
    return users.get(user) or Here()
