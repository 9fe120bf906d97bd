"""Nodes of a simulated cluster: their balancer, and what happens to them."""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

from huahuo.app.config import Settings
from huahuo.app.credentials import Keys
from huahuo.app.service_port import WaitingRoom
from huahuo.app.wiring import App
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.model import LOG_STREAM
from huahuo.eventstore.port import Log
from huahuo.eventstore.replicated.opening import Held, open_replica
from huahuo.eventstore.replicated.state_machine import load_shared
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.port import InDoubt, Ordered
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.verdict import Verdict
from tests.support.checkers.history import History
from tests.support.models.hostile_sequencer import HostileSequencer
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.models.model_imap import ModelImap
from tests.support.simulator.device import Device
from tests.support.simulator.faults import Faults
from tests.support.simulator.loop import Loop
from tests.support.simulator.marks import Marks
from tests.support.simulator.node import HOST, MASTER_KEY, PORT, Node, SimClock
from tests.support.simulator.ordered_log import NetSequencer, serve_order
from tests.support.simulator.shop import Outside
from tests.support.worlds.listening import listen

ASKS_S: Final = 2.0
ANSWER_S: Final = 1.0
_READ: Final = 1 << 16
_READY: Final = b"HTTP/1.1 200"


class Balancer:
    """See the module. `nodes`: the names of their machines."""

    def __init__(self, loop: Loop, nodes: Sequence[str], marks: Marks) -> None:
        self._nodes = nodes
        self._marks = marks
        self._ready: list[str] = []
        self._chance = Random(f"balancer {loop.seed}")
        self._last: dict[str, str] = {}
        """By client: the node that had it last."""

    async def serve(self) -> None:
        """Until it is cancelled."""
        server = await listen(self._handle, HOST, PORT)
        async with server:
            while True:
                self._ready = [name for name in self._nodes if await self._is_ready(name)]
                await asyncio.sleep(ASKS_S)

    async def _is_ready(self, name: str) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_connection(name, PORT)
                try:
                    if writer.is_closing():  # as in `_copy`
                        return False
                    writer.write(
                        f"GET /readyz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
                    )
                    return (await reader.readline()).startswith(_READY)
                finally:
                    writer.close()
        return False

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        some = self._ready or self._nodes
        for name in self._chance.sample(some, len(some)):
            try:
                async with asyncio.timeout(ANSWER_S):
                    there = await asyncio.open_connection(name, PORT)
            except (OSError, TimeoutError):
                continue
            client = str(writer.get_extra_info("peername")[0])
            before = self._last.get(client, name)
            self._last[client] = name
            self._marks.sometimes("client moved to another node", before != name)
            await _join((reader, writer), there)
            return
        writer.transport.abort()


type _Socket = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(one: _Socket, other: _Socket) -> None:
    """Copy both ways until one side ends; then the other ends in the same way."""
    copying = [asyncio.ensure_future(_copy(one[0], other[1])), asyncio.ensure_future(_copy(other[0], one[1]))]
    try:
        ended, _ = await asyncio.wait(copying, return_when=asyncio.FIRST_COMPLETED)
        for _, writer in (one, other):
            if all(task.result() for task in ended):
                writer.close()
            else:
                writer.transport.abort()
    finally:
        for task in copying:
            task.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether `reader` came to its end in order."""
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ):
            if writer.is_closing():  # simloop raises for a write to a connection that was reset
                return False
            writer.write(data)
            await writer.drain()
        return True
    return False


ORDER: Final = "order"
NAMES: Final = ("node-a", "node-b", "node-c")
LATE_S: Final = (15.0, 40.0)
"""When the last of three nodes joins."""
AGREE_S: Final = 30.0
PARTS_S: Final = 120.0
"""A node that left the work to newer code looks for a minute whether that is over."""
FAULT_RATE: Final = 0.05
HEARD_S: Final = 5.0
"""Less than what a node waits before it takes another one for dead, and what its proposals may be late."""
_LATE_EVENTS: Final = 50

type _Stored = dict[tuple[str, str, str], int]


class _Way(HostileSequencer):
    """A node's way to the ordered log. Tells when a proposal without an answer is in the order after all."""

    def __init__(self, seed: str, marks: Marks, ordered: Callable[[], None]) -> None:
        """`ordered`: called when a proposal is known to be in the order."""
        super().__init__(NetSequencer(), seed=seed, fault_rate=FAULT_RATE, lag_s=0.01)
        self._ordered = ordered
        self._marks = marks
        self._doubted: set[bytes] = set()

    async def propose(self, proposal: bytes) -> int:
        """As `Sequencer`."""
        try:
            offset = await super().propose(proposal)
        except InDoubt:
            self._doubted.add(proposal)
            raise
        self._ordered()
        return offset

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        """As `Sequencer`."""
        ordered = super().follow(after)
        try:
            async for one in ordered:
                self._marks.sometimes("in-doubt proposal resolved", one.proposal in self._doubted)
                self._doubted.discard(one.proposal)
                yield one
        finally:
            await ordered.aclose()


class Member(Node):
    """One of the nodes. Its lives are counted over all nodes, because effects go from one to another."""

    def __init__(self, cluster: "Cluster", folder: Path, history: History, name: str) -> None:
        self._of = cluster
        self._all = history
        self.by_offset: list[tuple[int, _Stored]] = []
        """The stored acks, and how far the ordered log was applied then."""
        own = History(
            looks=history.looks, counts=history.counts, drains_s=history.drains_s, followers=history.followers
        )
        super().__init__(cluster.loop, folder, "memory", own, cluster.marks, cluster.outside, name)
        self.writers = own.writers
        self.follows = True
        self._ordered_s = -math.inf

    @property
    def replica(self) -> ReplicaWriter | None:
        """The writer of this life; None while it is down."""
        app = self._app
        if app is None or not self.up.is_set() or not isinstance(app.log, StoreLog):
            return None
        assert isinstance(app.log.writer, ReplicaWriter)
        return app.log.writer

    def tables(self) -> dict[str, Any]:
        """What the replica holds, but for its own notes and how the log was cut into commits here."""
        assert self._app is not None
        assert isinstance(self._app.log, MemoryLog)
        tables = vars(self._app.log.store.tables)  # type: ignore[attr-defined]  # of the in-memory engine
        return {name: value for name, value in tables.items() if name not in ("frames", "meta")}

    async def start(self) -> None:
        """As `Node`. Older code that does not know what is open, and is needed for it, is not kept."""
        try:
            await super().start()
        except ConfigError:
            if self.newer or not self._of.was_updated:
                raise
            self.newer = True
            self._end_life()

    def _begin_life(self) -> None:
        self.marks.sometimes("node went back to older code", self.had_newer and not self.newer)
        self.keyframe_every = self._of.keyframe_every
        self._of.lives += 1
        self.life = self.outside.life = self._of.lives

    def _settings(self) -> Settings:
        self.settings_more, self.mail_more = self._of.settings_more, self._of.mail_more
        return super()._settings()

    async def _open(self, _settings: Settings, secrets: Keys, ambient: Ambient, _room: WaitingRoom) -> Log:
        async def engine(**more: Any) -> MemoryLog:
            return await MemoryLog.open(
                self.disk, ambient=ambient, master_key=secrets.master_key, build=f"sim-{self.life}",
                executor=InlineExecutor(), **more,
            )  # fmt: skip

        held = await self._held()
        way = _Way(f"{self.name} {self.loop.seed} {self.life}", self.marks, self._was_ordered)
        log = await open_replica(
            engine, ambient=ambient, master_key=secrets.master_key, sequencer=way, node=self.name, held=held
        )
        self.writers.append(("open", str(self.life)))
        return log

    def _was_ordered(self) -> None:
        self._ordered_s = self.loop.time()

    def is_heard_of(self) -> bool:
        """As `Node`: something of it was ordered in the last seconds."""
        return super().is_heard_of() and self.loop.time() - self._ordered_s < HEARD_S

    async def _held(self) -> Held | None:
        log = await self.log_of(lambda data: data)
        try:
            shared = load_shared(log.store.tables.shared)  # type: ignore[attr-defined]  # as `tables`
            return Held(log.log_id, shared.offset, shared.digest) if shared.offset else None
        finally:
            await log.close()

    async def _note_acks(self, app: App) -> None:
        """By how far this replica is: another node that started before may be further."""
        assert isinstance(app.log, StoreLog)
        assert isinstance(app.log.writer, ReplicaWriter)
        before = app.log.writer.shared.offset
        acks = {(ack.user, ack.client, ack.stream): ack.seq for ack in await app.log.acks()}
        if before == app.log.writer.shared.offset:
            self.by_offset.append((before, acks))

    async def look(self) -> None:
        """As a node's, and which chain this node has."""
        had = len(self._all.looks)
        await super().look()
        self._all.nodes.setdefault(self.name, []).extend(self._all.looks[had:])


class Cluster(Node):
    """See the module. To clients and to the run it looks like one service."""

    def __init__(
        self, loop: Loop, folder: Path, count: int, history: History, marks: Marks, outside: Outside
    ) -> None:
        super().__init__(loop, folder, "memory", history, marks, outside)
        self.lives = 0
        self.healed = False
        """No fault strikes any more: all nodes must be there."""
        self.order = MemoryOrder()
        self.order_host = loop.net.host(ORDER)
        self.members = [Member(self, folder / name, history, name) for name in NAMES[:count]]
        self.joined: list[Member] = []
        self._own: list[asyncio.Task[None]] = []

    @property
    def app(self) -> App | None:
        """The service of the node that is furthest; None while none is up, or one is missing at the end."""
        up = [member for member in self.members if member.replica is not None]
        if not up or (self.healed and len(up) < len(self.members)):
            return None
        best = max(up, key=lambda member: member.replica.shared.offset if member.replica else 0)
        self.host = best.host  # what the application begins there belongs to that machine
        return best.app

    @property
    def services(self) -> Sequence[Node]:
        """As `Node`."""
        return self.members

    @property
    def runs_newer(self) -> bool:
        """As `Node`."""
        return all(member.newer and member.runs_newer for member in self.members)

    @property
    def was_updated(self) -> bool:
        """As `Node`."""
        return any(member.newer or member.had_newer for member in self.members)

    def asking(self, machine: str) -> Node:
        """As `Node`."""
        return next(member for member in self.members if member.name == machine)

    async def start(self) -> None:
        """Start the ordered log, the nodes and the balancer. The last of three nodes joins late."""
        self.serve_order()
        first = self.members[:2]
        self.joined += first
        await asyncio.gather(*(member.start() for member in first))
        balancer = Balancer(self.loop, [member.name for member in self.members], self.marks)
        self.loop.net.host(HOST).create_task(balancer.serve())
        self.up.set()
        self._own += [asyncio.ensure_future(self._join(member)) for member in self.members[2:]]

    async def _join(self, late: Member) -> None:
        await asyncio.sleep(Random(f"late {self.loop.seed}").uniform(*LATE_S))
        behind = self.order.last
        self.joined.append(late)
        await late.start()
        self.marks.sometimes("node joined late", behind > _LATE_EVENTS)

    def serve_order(self) -> None:
        """Let the machine of the ordered log serve."""
        self.order_host.create_task(serve_order(self.order))

    async def look(self) -> None:
        """Note where each node stands."""
        up = [member for member in self.members if member.replica is not None]
        self.marks.sometimes("nodes of two versions at once", len({each.runs_newer for each in up}) > 1)
        for member in up:
            await member.look()

    async def drain(self) -> None:
        """At the end: wait until all nodes hold the same, compare them, and let each stop in order."""
        for task in self._own:
            task.cancel()
        self.verdicts.append(await self._agree())
        if self.was_updated:
            self.verdicts.append(await self._all_work())
        await self.look()
        for member in self.members:
            await member.drain()
        self._history.writers += [each for member in self.members for each in member.writers]
        stored = sorted(
            (each for member in self.members for each in member.by_offset), key=lambda one: one[0]
        )
        self._history.acks += [acks for _, acks in stored]

    async def _agree(self) -> Verdict:
        """I27: at some moment all nodes have applied all that was ordered. Then they hold the same tables."""
        until_s = self.loop.time() + AGREE_S
        while self.loop.time() < until_s:
            offsets = {None if one.replica is None else one.replica.shared.offset for one in self.members}
            if offsets == {self.order.last}:
                first, *rest = (member.tables() for member in self.members)
                differ = sorted({name for other in rest for name in first if other[name] != first[name]})
                if differ:
                    return Verdict("I27", holds=False, text=f"nodes differ in {', '.join(differ)}")
                return Verdict("I27", holds=True, text="the nodes hold the same tables")
            await asyncio.sleep(0.05)
        return Verdict(
            "I27", holds=False, text=f"the nodes did not come to the same place in {AGREE_S:.0f} s"
        )

    async def _all_work(self) -> Verdict:
        """I26: once all run one version again, each node does its part of the work."""
        until_s = self.loop.time() + PARTS_S
        while self.loop.time() < until_s:
            duties = [None if one.app is None else one.app.duty for one in self.members]
            if all(duty is not None and len(duty.sharing) == len(duties) for duty in duties):
                return Verdict("I26", holds=True, text="each node does a part of the work")
            await asyncio.sleep(0.5)
        return Verdict("I26", holds=False, text=f"a node does no part of the work {PARTS_S:.0f} s on")

    async def log_of(self, changed: Callable[[bytes], bytes]) -> MemoryLog | SqliteLog:
        """The log of the node that is furthest. Raises as `Node.log_of`."""
        found: list[tuple[int, int, Member]] = []
        for number, member in enumerate(self.members):
            log = await member.log_of(lambda data: data)
            head = log.head(LOG_STREAM)
            self._history.nodes.setdefault(member.name, []).append((head.seq, head.link))
            found.append((head.seq, -number, member))
            with contextlib.suppress(EventStoreError):
                await log.close()
        return await max(found)[2].log_of(changed)

    async def safe_secrets(self, streams: str, name: str) -> list[str]:
        """As `Node`: what was ordered outlives any crash, and a new replica would have it."""
        order = MemoryOrder()
        for offset in range(1, self.order.last + 1):
            order.put(self.order.get(offset) or b"")
        ambient, master_key = SimClock(self.loop, "witness"), bytes.fromhex(MASTER_KEY)

        async def engine(**more: Any) -> MemoryLog:
            return await MemoryLog.open(
                ModelDisk(), ambient=ambient, master_key=master_key, build="sim", executor=InlineExecutor(),
                **more,
            )  # fmt: skip

        log = await open_replica(
            engine, ambient=ambient, master_key=master_key, sequencer=MemorySequencer(order), node="witness",
            held=None,
        )  # fmt: skip
        assert isinstance(log.writer, ReplicaWriter)
        try:
            await log.writer.joined()
            found = [await log.secrets(stream, (name,)) for stream in sorted(log.streams(streams))]
            return [secret.reveal() for [secret] in found if secret is not None]
        finally:
            await log.close()

    def raw(self) -> bytes:
        """All bytes that lie on the disks, and in the ordered log."""
        disks = b"".join(member.raw() for member in self.members)
        return disks + b"".join(self.order.get(offset) or b"" for offset in range(1, self.order.last + 1))


GO_BACK_S: Final = 8.0
"""Between two nodes that go back: timers of the newer code fire within as long."""
GO_BACK_TRIES: Final = 40


class ClusterFaults(Faults):
    """See the module."""

    def __init__(
        self,
        cluster: Cluster,
        devices: Sequence[Device],
        clients: Sequence[Any],
        imap: ModelImap,
        down_s: float,
    ) -> None:
        super().__init__(cluster, devices, clients, imap, down_s)
        self._cluster = cluster
        self._kinds |= {
            "log cut off": self._cut_off, "log down": self._log_down, "nodes apart": self._apart,
            "node unseen": self._unseen, "slow log": self._slow_log, "node clock": self._node_clock,
            "roll": self._roll, "go back": self._go_back,
        }  # fmt: skip

    @property
    def _victim(self) -> Member:
        return self._chance.choice(self._cluster.joined)

    async def revive(self) -> None:
        """Start each node again whenever it is gone, after a while."""
        await asyncio.gather(*map(self._revive, self._cluster.members))

    def heal(self) -> None:
        """All faults end."""
        super().heal()
        self._cluster.healed = True
        for member in self._cluster.members:
            member.offset_ms = 0
            self._loop.net.set_link(ORDER, member.name, latency=(0.001, 0.02))

    async def end_update(self) -> None:
        """Newer code on all nodes, if it has come to one: what only it can do must come to its end.

        In every second run in which older code came back, older code on all nodes, once that has ended.
        """
        if "go back" in self._struck and self._loop.seed % 2 == 0:
            for _ in range(GO_BACK_TRIES):
                if not any(one.newer for one in self._cluster.members):
                    self._node.marks.sometimes("all nodes went back to older code")
                    return
                await self._go_back()
                await asyncio.sleep(GO_BACK_S)
        while self._cluster.was_updated and not all(one.newer for one in self._cluster.members):
            await self._roll()

    async def _cut_off(self) -> None:
        some = self._chance.sample(self._cluster.joined, self._chance.randint(1, 2))
        await self._partition_of([member.name for member in some], [ORDER], 20)

    async def _apart(self) -> None:
        one, *others = self._chance.sample(self._cluster.members, len(self._cluster.members))
        await self._partition_of([one.name], [other.name for other in others], 30)

    async def _unseen(self) -> None:
        await self._partition_of([self._victim.name], [HOST], 20)

    async def _partition_of(self, some: list[str], others: list[str], most_s: float) -> None:
        self._loop.net.partition(some, others)
        await asyncio.sleep(self._chance.uniform(0.5, most_s))
        self._loop.net.heal()
        self._node.marks.sometimes("partition healed")

    async def _log_down(self) -> None:
        cluster = self._cluster
        if not self._loop.net._alive[ORDER]:  # noqa: SLF001  another such fault is not over
            return
        cluster.order_host.crash()
        await asyncio.sleep(self._chance.uniform(0.2, 8))
        cluster.order_host.restart()
        cluster.serve_order()

    async def _roll(self) -> None:
        """Newer code on one node more, from its next life on."""
        older = [member for member in self._cluster.members if not member.newer]
        if older:
            one = self._chance.choice(older)
            one.newer = True
            await one.drain()

    async def _go_back(self) -> None:
        """Older code on a node that has newer code, from its next life on."""
        newer = [member for member in self._cluster.members if member.newer]
        if newer:
            one = self._chance.choice(newer)
            one.newer = False
            await one.drain()

    async def _slow_log(self) -> None:
        name = self._victim.name
        self._loop.net.set_link(ORDER, name, latency=(0.3, 1.5))
        await asyncio.sleep(self._chance.uniform(1, 20))
        self._loop.net.set_link(ORDER, name, latency=(0.001, 0.02))

    async def _node_clock(self) -> None:
        self._victim.offset_ms = self._chance.choice((-300_000, -5_000, 5_000, 300_000))
