"""What nodes tell each other again and again: which clients are here, and what their rates took.

`Presence` is pure. A node tells whole facts ("user 7 has three connections here, of these clients, since
then"), so the same news twice, or news after a gap, do no harm. What a node has not heard is owed, and
told when it is back. One request to a node is under way at a time; what changes meanwhile goes with the
next, so a storm of clients that come back costs a few requests and not one for each.

Rates: a node that hears what another took takes as much from its own count, so all together give what one
would. What is told is a quarter of a second old: only what comes to several nodes within that time is
more, once, and is missing afterwards. What could not be told is dropped: it means nothing any more.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Final, Protocol

import msgspec
import structlog

from huahuo.actors.plugins.calls import UserId
from huahuo.cluster.node_requests import NodeBegins, NodeError, Peers
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import cancel_all

USERS_A_MESSAGE = 5000
BYTES_A_MESSAGE = 256 << 10
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
    """Which clients are connected to which node: what each node tells the others, and who gives way.

    `process`: a name of this life of the node.
    """

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


REQUEST: Final = "news"
PAUSE_S: Final = 0.02
"""Between two requests to a node."""
AGAIN_S: Final = 0.5
TURN_S: Final = 0.25
"""How often to look which nodes live, and what was taken here."""
BYTES_A_RATE: Final = 128 << 10
"""Of a message. If there is more, the keys that took most are told."""
_A_KEY_BYTES: Final = 12
"""Besides its characters: their length, and the count."""
_log = structlog.get_logger(__name__)


class Rate(Protocol):
    """One limit. `spent`: what each key took here, not told to other nodes yet; None while there are none."""

    spent: Counter[str] | None

    def charge(self, key: str, count: int, now_s: float) -> None:
        """A key took as much on another node."""
        ...


class News(msgspec.Struct, frozen=True):
    """What a node tells another one: of its clients, and what keys took there lately, by the rate's name."""

    clients: Told
    took: dict[str, dict[str, int]]


class Telling:
    """Tells the other nodes which clients are here and what was taken, and hears the same of theirs.

    Implements `hub.Elsewhere`. `leave`: closes the connections of a client here. Nothing is counted for
    others before `share`.
    """

    def __init__(self, peers: Peers, ambient: Ambient, leave: Callable[[UserId, str], None]) -> None:
        self._peers = peers
        self._ambient = ambient
        self._leave = leave
        self._rates: Mapping[str, Rate] = {}
        self.presence = Presence(peers.node, ambient.token(8), ambient.now_ms)
        self._owed: dict[str, dict[str, Counter[str]]] = {}
        """What was taken since each node was told last."""
        self._changed: dict[str, asyncio.Event] = {}
        self._silent: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        peers.on(REQUEST, News, self._heard)

    def share(self, rates: Mapping[str, Rate]) -> None:
        """Let these rates hold over all nodes."""
        self._rates = rates
        for rate in rates.values():
            rate.spent = Counter()

    def start(self) -> None:
        """Tell from now on."""
        self._looking = asyncio.create_task(self._look(), name="nodes that live")

    async def stop(self) -> None:
        """Tell no more. Idempotent."""
        for rate in self._rates.values():
            rate.spent = None
        looking, self._looking = self._looking, None
        tasks = [*self._tasks.values(), *([] if looking is None else [looking])]
        self._tasks.clear()
        await cancel_all(tasks, 1.0)

    def joined(self, user: UserId, client: str) -> None:
        """See `hub.Elsewhere`."""
        self.presence.joined(user, client)
        self._wake()

    def parted(self, user: UserId, client: str) -> None:
        """See `hub.Elsewhere`."""
        self.presence.parted(user, client)
        self._wake()

    def count(self, user: UserId, client: str) -> int:
        """See `hub.Elsewhere`."""
        return self.presence.count(user, client)

    def gather(self) -> None:
        """Note what was taken here for each node that lives. Those that do not are owed nothing."""
        living = self._peers.living()
        self._owed = {node: owed for node, owed in self._owed.items() if node in living}
        for name, rate in self._rates.items():
            if spent := rate.spent:
                rate.spent = Counter()
                for node in living:
                    self._owed.setdefault(node, {}).setdefault(name, Counter()).update(spent)
                self._wake()

    async def tell(self, node: str) -> bool:
        """Tell a node what it does not know yet. False: it did not hear it."""
        owed, told = self._owed.pop(node, {}), self.presence.next(node)
        news = News(told, {name: most(spent) for name, spent in owed.items()})
        try:
            heard = await self._peers.ask(node, REQUEST, news, Heard)
        except NodeError as error:
            self.presence.failed(node, told)
            if node not in self._silent and not isinstance(error, NodeBegins):
                self._silent.add(node)
                _log.warning("node_not_told", node=node, reason=str(error))
            return False
        self._silent.discard(node)
        self.presence.answered(node, heard)
        return True

    def _wake(self) -> None:
        for changed in self._changed.values():
            changed.set()

    async def _heard(self, node: str, news: News) -> Heard:
        heard, leaving = self.presence.hear(node, news.clients)
        if news.clients.asks and node in self._changed:
            self._changed[node].set()
        for user, client in leaving:
            self._leave(user, client)
        now_s = self._ambient.monotonic_s()
        for name, spent in news.took.items():
            if (rate := self._rates.get(name)) is not None:  # a newer node may have more of them
                for key, count in spent.items():
                    rate.charge(key, count, now_s)
        return heard

    async def _look(self) -> None:
        while True:
            living = set(self._peers.living())
            for node in living - self._tasks.keys():
                self._changed[node] = asyncio.Event()
                self._tasks[node] = asyncio.create_task(self._tell_on(node), name=f"tell {node}")
            for node in self._tasks.keys() - living:
                self._tasks.pop(node).cancel()
                del self._changed[node]
                self._silent.discard(node)
                self.presence.forget(node)
            for node in set(self.presence.heard_of()) - living:  # it tells, and says nothing in the log
                self.presence.forget(node)
            self.gather()
            await asyncio.sleep(TURN_S)

    async def _tell_on(self, node: str) -> None:
        changed = self._changed[node]
        while True:
            changed.clear()
            if not (self.presence.owes(node) or node in self._owed):
                await changed.wait()
            else:
                await asyncio.sleep(PAUSE_S if await self.tell(node) else AGAIN_S)


def most(spent: Mapping[str, int]) -> dict[str, int]:
    """The keys that took most, at most as many as fit a message."""
    told, size = {}, 0
    for key, count in sorted(spent.items(), key=lambda one: one[1], reverse=True):
        size += len(key.encode()) + _A_KEY_BYTES
        if size > BYTES_A_RATE:
            break
        told[key] = count
    return told
