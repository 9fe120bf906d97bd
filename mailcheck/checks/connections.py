"""Connections over IMAP to each host, bounded. Pure but for the futures of those who wait.

`connections_max` of a provider holds over all nodes (`Lending`). So does the bound of checks at one host,
where nodes divide checks. A watcher that waits in IDLE only lends its place: a check that finds none free
takes the place that has been idle for longest. Watchers themselves never wait here: they come again later.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from hashlib import blake2b
from math import inf
from weakref import WeakValueDictionary

import msgspec

from huahuo.actors.plugins.plugin import Lending
from huahuo.mailcheck.mailbox.decider import Plan
from huahuo.mailcheck.servers.providers import Provider, Providers

_KEYS_KEPT = 4096
"""Names of hosts whose keys are remembered; each is made again in 2 µs."""


class Places:
    """The places at one host."""

    __slots__ = ("__weakref__", "_idle", "_oldest_s", "_waiting", "busy", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.busy = 0
        self._idle: OrderedDict[int, tuple[float, Callable[[], None]]] = OrderedDict()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._oldest_s = inf
        """No watcher that waits in IDLE has had its place for longer."""

    @property
    def open(self) -> int:
        """Connections that stand or are being made."""
        return self.busy + len(self._idle)

    async def take(self) -> None:
        """Take a place for a check, from the watcher that is idle for longest if none is free."""
        if self.open >= self.limit and not self._waiting:
            self._evict()
        if self.open < self.limit and not self._waiting:
            self.busy += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            raise

    def try_take(self, before_s: float) -> bool:
        """Take a place for a watcher, if one is free or a watcher in IDLE has it since `before_s`."""
        if self._waiting:
            return False
        if self.open >= self.limit and self._idle and self._oldest_s <= before_s:
            oldest = min(self._idle, key=lambda email_id: self._idle[email_id][0])
            self._oldest_s = self._idle[oldest][0]
            if self._oldest_s <= before_s:
                self._idle.move_to_end(oldest, last=False)
                self._evict()
        if self.open >= self.limit:
            return False
        self.busy += 1
        return True

    def take_at_once(self) -> None:
        """Count a place that is in use already, also over the limit."""
        self.busy += 1

    def give(self) -> None:
        """Give a place back."""
        self.busy -= 1
        self._next()

    def lend(self, email_id: int, since_s: float, evict: Callable[[], None]) -> None:
        """The watcher of a mailbox, which took its place at `since_s`, waits in IDLE. `evict` closes it."""
        self.busy -= 1
        self._idle[email_id] = since_s, evict
        self._oldest_s = min(self._oldest_s, since_s)
        if self._waiting:
            self._evict()

    def wake(self, email_id: int) -> None:
        """The watcher uses its place again."""
        del self._idle[email_id]
        self.busy += 1

    def _evict(self) -> None:
        if self._idle:
            _, (_, evict) = self._idle.popitem(last=False)
            evict()
            self._next()

    def _next(self) -> None:
        while self._waiting and self.open < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.busy += 1
                turn.set_result(None)


class Connections:
    """The places of every host."""

    def __init__(
        self,
        providers: Providers,
        watched_per_host_max: int,
        lending: Lending | None = None,
        checks_per_host_max: int = 0,
    ) -> None:
        """`watched_per_host_max`: for watchers where the table of providers says nothing.

        `checks_per_host_max`: the same for checks of all nodes; 0: their runner bounds them.
        """
        self._providers = providers
        self._default = watched_per_host_max
        self._checks_max = checks_per_host_max
        self._lending = lending or Lending()
        self._lending.lend(self._taken)
        # A host is forgotten while no check has a place there or waits for one: users name the hosts.
        self._places: WeakValueDictionary[str, Places] = WeakValueDictionary()
        self._keys: dict[tuple[Provider, str], str] = {}
        self._checking = 0
        self.peak = 0
        """The most connections of checks at one time."""

    @property
    def open(self) -> int:
        """Connections of watchers, and of checks at providers with a bound."""
        return sum(places.open for places in tuple(self._places.values()))

    @property
    def hosts(self) -> int:
        """Hosts of which something is kept."""
        return len(self._places)

    @asynccontextmanager
    async def of_check(self, plan: Plan) -> AsyncIterator[None]:
        """A place for a check. Where the table says nothing, the bound is that of checks at one host."""
        if (
            self._checks_max
            and not self._providers.of(plan.mail_type, plan.server, plan.port).connections_max
        ):
            place = self._lending.place(f"checks at {plan.server.lower()}", self._checks_max)
        else:
            place = self.of_mail(plan)
        async with place:
            self._checking += 1
            self.peak = max(self.peak, self._checking)
            try:
                yield
            finally:
                self._checking -= 1

    def of_mail(self, plan: Plan) -> AbstractAsyncContextManager[None]:
        """A place for reading mails that a user opens. Where the table says nothing, there is no bound."""
        provider = self._providers.of(plan.mail_type, plan.server, plan.port)
        bound = provider.connections_max
        return self._lending.place(self._key(provider, plan), bound) if bound else nullcontext()

    def of_watchers(self, plan: Plan) -> Places:
        """The places at a mailbox's host."""
        provider = self._providers.of(plan.mail_type, plan.server, plan.port)
        return self._of(self._key(provider, plan), provider.connections_max or self._default)

    @asynccontextmanager
    async def _taken(self, key: str, places_max: int, in_use: bool) -> AsyncIterator[None]:
        places = self._of(key, places_max)
        if in_use:
            places.take_at_once()
        else:
            await places.take()
        try:
            yield
        finally:
            places.give()

    def _of(self, key: str, places_max: int) -> Places:
        places = self._places.get(key)
        if places is None:
            places = self._places[key] = Places(places_max)
        return places

    def _key(self, provider: Provider, plan: Plan) -> str:
        """The same on all nodes with this entry in their tables."""
        # One provider may have several hosts, which `connections_max` bounds together; type `imap` has any.
        of = provider, "" if provider.hosts else plan.server.lower()
        key = self._keys.get(of)
        if key is None:
            if len(self._keys) >= _KEYS_KEPT:
                self._keys.clear()
            key = self._keys[of] = blake2b(msgspec.json.encode(of), digest_size=8).hexdigest()
        return key
