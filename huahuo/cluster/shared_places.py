"""Places that are counted over all nodes, such as connections to one mail server, and who lends them.

The node with the work lends them. A node tells all that it wants and has again and again, so a message
that comes twice or late does no harm; one that is silent has nothing. The next node with the work counts
at once what the others have, and grants nothing new until all living nodes have told it. If none answers
for `ALONE_S`, a node goes on without a bound: reading a mail must not end with the others.
"""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
import structlog

from huahuo.actors.plugins.plugin import Take
from huahuo.cluster.members import SILENT_S
from huahuo.cluster.node_requests import NodeError, Peers, Refused
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import cancel_all


class Want(msgspec.Struct, frozen=True, array_like=True):
    """A place that a node wants, or `has`. There are `places_max` of this key on all nodes."""

    id: str
    key: str
    places_max: int
    has: bool


class Wants(msgspec.Struct, frozen=True):
    """All that a node wants and has. `number` rises within one `process`."""

    process: str
    number: int
    wants: list[Want]


class _Loan(msgspec.Struct, eq=False):
    task: asyncio.Task[None]
    granted: bool = False


class Lent:
    """The places that the node with the work lends: what each node wants and has, and which of it is granted.

    `take`: takes a place here. `granted`: hears of each place that a node gets.
    """

    def __init__(self, take: Take, granted: Callable[[str, str], None]) -> None:
        self._take = take
        self._granted = granted
        self._loans: dict[str, dict[str, _Loan]] = {}
        self._told: dict[str, tuple[str, int]] = {}
        """By node: its process, and the number of its newest news."""
        self._open = asyncio.Event()

    def hear(self, node: str, wants: Wants) -> None:
        """All that `node` wants and has now."""
        process, number = self._told.get(node, ("", 0))
        if process == wants.process and wants.number <= number:
            return
        self._told[node] = (wants.process, wants.number)
        loans = self._loans.setdefault(node, {})
        for gone in sorted(loans.keys() - {want.id for want in wants.wants}):
            loans.pop(gone).task.cancel()
        for want in wants.wants:
            known = loans.get(want.id)
            if known is not None and want.has and not known.granted:  # it went on without asking
                known.task.cancel()
                known = None
            if known is None:
                task = asyncio.create_task(self._lend(node, want), name=f"place for {node}")
                loans[want.id] = _Loan(task)

    def granted_to(self, node: str) -> list[str]:
        """The places that `node` has."""
        return [id_ for id_, loan in self._loans.get(node, {}).items() if loan.granted]

    def look(self, living: Collection[str], awaited: Collection[str]) -> None:
        """These nodes live. Places that others had are free. Once all `awaited` told, new ones are lent."""
        for gone in sorted(self._told.keys() - set(living)):
            self._drop(gone)
        if self._told.keys() >= set(awaited):
            self._open.set()

    def open(self) -> None:
        """Grant new places, although some nodes have not told what they have."""
        self._open.set()

    def close(self) -> None:
        """Another node has the work."""
        for node in list(self._told):
            self._drop(node)
        self._open.clear()

    def _drop(self, node: str) -> None:
        self._told.pop(node, None)
        for loan in self._loans.pop(node, {}).values():
            loan.task.cancel()

    async def _lend(self, node: str, want: Want) -> None:
        """Hold a place until it is given back, which cancels this task."""
        if not want.has:
            await self._open.wait()
        async with self._take(want.key, want.places_max, want.has):
            self._loans[node][want.id].granted = True
            self._granted(node, want.id)
            await asyncio.Event().wait()


REQUEST: Final = "places"
TURN_S: Final = 0.2
"""Between two questions while something is wanted, and how often to look which node has the work."""
_PAUSE_S: Final = 0.02
"""Between two questions at least: each tells all that is wanted."""
RENEW_S: Final = 2.0
TIMEOUT_S: Final = 2.0
ALONE_S: Final = 10.0
WANTS_MAX: Final = 5_000
"""Of one message. What is more waits."""
_log = structlog.get_logger(__name__)


class Granted(msgspec.Struct, frozen=True):
    """The answer: the places that the node which asked has."""

    ids: list[str]


class _Mine(msgspec.Struct, eq=False):
    key: str
    places_max: int
    got: asyncio.Future[None]


class Borrowing:
    """See the module. Implements `OverNodes`. `holder`: the node that has the work, "" for none."""

    def __init__(self, peers: Peers, ambient: Ambient, take: Take, holder: Callable[[], str]) -> None:
        self._peers = peers
        self._ambient = ambient
        self._holder = holder
        self._process = ambient.token(8)
        self._ids = itertools.count(1)
        self._numbers = itertools.count(1)
        self._mine: dict[str, _Mine] = {}
        self._changed = asyncio.Event()
        self._told = ("", 0.0)
        """The node that was told last, and when."""
        self._answered_s = self._holds_s = ambient.monotonic_s()
        self._lent = Lent(take, self._on_granted)
        self._running: asyncio.Task[None] | None = None
        self._stopped = False
        self._warned_s = -math.inf
        peers.on(REQUEST, Wants, self._asked)

    def start(self) -> None:
        """Ask from now on."""
        self._running = asyncio.create_task(self._run(), name="places over all nodes")

    async def stop(self) -> None:
        """Ask no more, and lend nothing. Idempotent."""
        self._stopped = True
        running, self._running = self._running, None
        if running is not None:
            await cancel_all([running], 1.0)
        self._lent.close()

    @asynccontextmanager
    async def borrowed(self, key: str, places_max: int) -> AsyncIterator[None]:
        """See `OverNodes`."""
        id_ = f"{self._process}.{next(self._ids)}"
        mine = self._mine[id_] = _Mine(key, places_max, asyncio.get_running_loop().create_future())
        self._changed.set()
        try:
            await mine.got
            yield
        finally:
            del self._mine[id_]
            self._changed.set()

    async def turn(self) -> None:
        """Tell the node with the work what is wanted here, if it is time; take what it grants."""
        holder, now_s = self._holder(), self._ambient.monotonic_s()
        if holder == self._peers.node:
            self._answered_s = now_s
            self._hold(now_s)
            return
        self._lent.close()
        if self._told[0] == self._peers.node:  # it had the work: with the next one all begins anew
            self._told = ("", now_s)
        waits = any(not mine.got.done() for mine in self._mine.values())
        changed = self._changed.is_set()
        self._changed.clear()
        if holder and (changed or waits or holder != self._told[0] or now_s - self._told[1] >= RENEW_S):
            await self._ask(holder, now_s)
        if now_s - self._answered_s > ALONE_S and waits:
            if self._answered_s > self._warned_s:
                _log.warning("places_without_bound", reason="no node with the work answers")
                self._warned_s = now_s
            self._take(list(self._mine))

    def _hold(self, now_s: float) -> None:
        """This node has the work: it lends, also to itself."""
        self._changed.clear()
        if self._told[0] != self._peers.node:
            self._told = (self._peers.node, now_s)
            self._holds_s = now_s
        self._lent.hear(self._peers.node, self._wants())
        node, peers = self._peers.node, self._peers
        # A node that was silent for this long has lost its part of the work, so it is not waited for.
        self._lent.look({node, *peers.living()}, {node, *peers.living(SILENT_S)})
        if now_s - self._holds_s > ALONE_S:
            self._lent.open()

    async def _ask(self, holder: str, now_s: float) -> None:
        try:
            said = await self._peers.ask(holder, REQUEST, self._wants(), Granted, timeout_s=TIMEOUT_S)
        except NodeError:
            self._told = ("", now_s)
        else:
            self._told = (holder, now_s)
            self._answered_s = self._ambient.monotonic_s()
            self._take(said.ids)

    def _wants(self) -> Wants:
        wants = [
            Want(id_, mine.key, mine.places_max, mine.got.done())
            for id_, mine in itertools.islice(self._mine.items(), WANTS_MAX)
        ]
        return Wants(self._process, next(self._numbers), wants)

    def _take(self, ids: list[str]) -> None:
        for id_ in ids:
            mine = self._mine.get(id_)
            if mine is not None and not mine.got.done():
                mine.got.set_result(None)

    async def _asked(self, node: str, wants: Wants) -> Granted:
        if self._stopped or self._holder() != self._peers.node:
            raise Refused("not_here", "it has not the work")
        self._lent.hear(node, wants)
        for _ in range(3):  # what is free is granted at once
            await asyncio.sleep(0)
        return Granted(self._lent.granted_to(node))

    def _on_granted(self, node: str, id_: str) -> None:
        if node == self._peers.node:
            self._take([id_])

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TURN_S):
                    await self._changed.wait()
            try:
                await self.turn()
            except Exception:  # noqa: BLE001  else no wait for a place would ever end
                _log.exception("places_turn_failed")
            await asyncio.sleep(_PAUSE_S)
