"""Three nodes and an ordered log on machines of a simulated network, with faults from a seed.

The ordered log is durable: its machine may crash, what it acknowledged stays. A node's machine loses what was
not synced to its disk.
"""

import asyncio
import random
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
from simloop import SimLoop

from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import Closed, Conflict, QueueFull, Unavailable
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.model import LOG_STREAM, Append, CommandKey, CommandRecord, Duplicate, NewEvent
from huahuo.eventstore.replicated.opening import open_replica
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.port import InDoubt, Ordered, Sequencer, Unreachable
from tests.support.checkers.history import Asked, Fact, History
from tests.support.models.hostile_sequencer import HostileSequencer
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.listening import listen
from tests.support.worlds.logs import MASTER_KEY
from tests.support.worlds.simworld import SimAmbient

NAMES: Final = ("a", "b", "c")
STREAMS: Final = ("s/1", "s/2")
LINES: Final = 2
PORT: Final = 9
ANSWER_S: Final = 2.0
_LENGTH = struct.Struct("!I")


async def _send(writer: asyncio.StreamWriter, *what: Any) -> None:
    if writer.is_closing():
        raise ConnectionResetError  # simloop raises another error there
    data = msgspec.msgpack.encode(what)
    writer.write(_LENGTH.pack(len(data)) + data)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader) -> Any:
    [length] = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return msgspec.msgpack.decode(await reader.readexactly(length))


async def serve_order(order: MemoryOrder) -> None:
    """The machine of the ordered log."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            match await _receive(reader):
                case ["propose", data]:
                    await _send(writer, order.put(data))
                case ["last"]:
                    await _send(writer, order.last)
                case ["follow", after]:
                    while True:
                        data = order.get(after + 1)
                        if data is None:
                            await order.wait()
                        else:
                            after += 1
                            await _send(writer, after, data)
        writer.close()

    server = await listen(serve, "order", PORT)
    async with server:
        await server.serve_forever()


class NetSequencer:
    """A node's way to the ordered log over the simulated network."""

    proposal_bytes_max = 1 << 20
    trouble = ""

    async def propose(self, proposal: bytes) -> int:
        [offset] = await self._ask("propose", proposal)
        return int(offset)

    async def last(self) -> int:
        try:
            [offset] = await self._ask("last")
        except InDoubt as error:
            raise Unreachable(str(error)) from None
        return int(offset)

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    reader, writer = await asyncio.open_connection("order", PORT)
                try:
                    await _send(writer, "follow", after)
                    while True:
                        # Silence may mean that the way is cut: connect again.
                        async with asyncio.timeout(ANSWER_S):
                            offset, data = await _receive(reader)
                        after = offset
                        yield Ordered(offset, data)
                finally:
                    writer.close()
            await asyncio.sleep(0.1)

    async def trim(self, before: int) -> None:
        raise Unreachable(f"not trimmed before {before}")

    async def close(self) -> None:
        pass

    async def _ask(self, *what: Any) -> Any:
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_connection("order", PORT)
        except (OSError, TimeoutError):
            raise Unreachable("the ordered log does not answer") from None
        try:
            async with asyncio.timeout(ANSWER_S):
                await _send(writer, *what)
                return await _receive(reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            raise InDoubt("no answer came") from None
        finally:
            writer.close()


class NodeAmbient(SimAmbient):
    """The simulated clock, with a wall clock that may be wrong."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.wrong_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.wrong_ms


class SimNode:
    """A machine with a replica, and the senders that use it."""

    def __init__(self, loop: SimLoop, name: str, history: History) -> None:
        self.name = name
        self.disk = ModelDisk()
        self.log: StoreLog | None = None
        self.up = asyncio.Event()
        """Set while the replica is open."""
        self.lives = 0
        self.wrong_ms = 0
        self.host = loop.net.host(name)
        self._loop = loop
        self._history = history
        self._chance = random.Random(f"{loop.seed} {name}")
        self._asked = 0
        self._open: list[Asked] = []
        """Commands whose answer is not known: the next life sends them again."""

    @property
    def writer(self) -> ReplicaWriter:
        assert self.log is not None
        assert isinstance(self.log.writer, ReplicaWriter)
        return self.log.writer

    def start(self, *, talking: bool = True) -> None:
        self.lives += 1
        self.host.create_task(self._live(talking=talking))

    def crash(self) -> None:
        self._history.counts["crash"] += 1
        self.host.crash()
        self.disk.crash(self._chance)
        self.log = None
        self.up.clear()

    def restart(self, *, talking: bool = True) -> None:
        self.host.restart()
        self.start(talking=talking)

    async def _live(self, *, talking: bool) -> None:
        ambient = NodeAmbient(f"{self.name} {self._loop.seed} {self.lives}")
        ambient.wrong_ms = self.wrong_ms

        async def engine(**more: Any) -> StoreLog:
            return await MemoryLog.open(
                self.disk, ambient=ambient, master_key=MASTER_KEY, build=f"life {self.lives}", **more
            )

        way: Sequencer = HostileSequencer(
            NetSequencer(), seed=f"{self.name} {self._loop.seed} {self.lives}", fault_rate=0.05, lag_s=0.01
        )
        self.log = await open_replica(
            engine, ambient=ambient, master_key=MASTER_KEY, sequencer=way, node=self.name
        )
        self.up.set()
        await self.writer.joined()
        if talking:
            await asyncio.gather(self._repeat(), *(self._talk(line) for line in range(LINES)))

    async def _talk(self, line: int) -> None:
        while True:
            await asyncio.sleep(self._chance.random() * 0.5)
            await self._say(f"{self.name}.{line}")
            log = self.log
            assert log is not None
            self.look()

    def look(self) -> None:
        """Note where this node stands: a prefix of the final log, and of every other node's."""
        assert self.log is not None
        head = self.log.head(LOG_STREAM)
        self._history.looks.append((head.seq, head.link))
        self._history.nodes.setdefault(self.name, []).append((head.seq, head.link))

    async def _say(self, client: str) -> None:
        self._asked += 1
        stream = self._chance.choice(STREAMS)
        nonce = f"{self.name}-{self._asked}"
        kind = self._chance.choice(("plain", "command", "guarded"))
        asked = Asked(client, 1, nonce, stream, line=self._asked if kind == "plain" else 0)
        self._history.asked.append(asked)
        if kind == "command":
            asked.command = nonce
            self._open.append(asked)
        await self._send(asked, guarded=kind == "guarded")

    async def _repeat(self) -> None:
        """Send again what no earlier life heard an answer of."""
        for asked in list(self._open):
            await self._send(asked)

    async def _send(self, asked: Asked, *, guarded: bool = False) -> None:
        log = self.log
        assert log is not None
        record = None
        if asked.command:
            key = CommandKey("user/1", "c", asked.command)
            record = CommandRecord(key, b"f", b"{}", asked.stream)
        append = Append(
            ts_ms=0,
            events=(NewEvent(asked.stream, "said", asked.nonce.encode()),),
            expected={asked.stream: log.head(asked.stream).seq} if guarded else {},
            command=record,
            command_id=asked.command,
            principal=asked.client,
        )
        try:
            outcome = await log.append(append)
        except (Conflict, QueueFull):
            asked.answer = "fail"
            return
        except (Unavailable, Closed):
            return
        seq = outcome.command.at_seq if isinstance(outcome, Duplicate) else outcome.seq_of(asked.stream)
        asked.answer, asked.seq = "ok", seq
        asked.replies.append(str(seq))
        if asked in self._open:
            self._open.remove(asked)


class SimCluster:
    """Plays faults on three talking nodes, then lets them come to rest."""

    def __init__(self, loop: SimLoop) -> None:
        self.loop = loop
        self.history = History()
        self.order = MemoryOrder()
        self.order_host = loop.net.host("order")
        self.nodes = [SimNode(loop, name, self.history) for name in NAMES]
        self._chance = random.Random(f"faults {loop.seed}")

    async def play(self, faults: int) -> None:
        self.loop.net.set_flow_control(enabled=True)
        self.loop.net.set_defaults(latency=(0.001, 0.03))
        self.order_host.create_task(serve_order(self.order))
        for node in self.nodes:
            node.start()
        await asyncio.sleep(2)
        strikes: tuple[Callable[[], Awaitable[None]], ...] = (
            self._crash, self._cut, self._crash_order, self._wrong_clock, self._fail_disk, self._lag,
        )  # fmt: skip
        for _ in range(faults):
            await self._chance.choice(strikes)()
            await asyncio.sleep(self._chance.random())
        await self._rest()

    async def _crash(self) -> None:
        node = self._chance.choice(self.nodes)
        node.crash()
        await asyncio.sleep(self._chance.random() * 3)
        node.restart()

    async def _cut(self) -> None:
        self.history.counts["partition"] += 1
        some = self._chance.sample(NAMES, self._chance.randint(1, 2))
        self.loop.net.partition(some, ["order"])
        await asyncio.sleep(self._chance.random() * 6)
        self.loop.net.heal()

    async def _crash_order(self) -> None:
        self.history.counts["order crash"] += 1
        self.order_host.crash()
        await asyncio.sleep(self._chance.random() * 3)
        self.order_host.restart()
        self.order_host.create_task(serve_order(self.order))

    async def _wrong_clock(self) -> None:
        node = self._chance.choice(self.nodes)
        node.wrong_ms = self._chance.choice((-300_000, 300_000, 7 * 86_400_000))
        node.crash()
        node.restart()

    async def _fail_disk(self) -> None:
        node = self._chance.choice(self.nodes)
        node.disk.fail_syncs.append(5)
        await asyncio.sleep(1)

    async def _lag(self) -> None:
        name = self._chance.choice(NAMES)
        self.loop.net.set_link("order", name, latency=(0.5, 1.5))
        await asyncio.sleep(2)
        self.loop.net.set_link("order", name, latency=(0.001, 0.03))

    async def _rest(self) -> None:
        """All faults end, the nodes go silent, and each catches up within 30 s (I7)."""
        history = self.history
        history.healed_s = self.loop.time()
        for node in self.nodes:
            node.disk.fail_syncs.clear()
            node.crash()
            node.restart(talking=False)
        async with asyncio.timeout(30):
            for node in self.nodes:
                await node.up.wait()
                await node.writer.joined()
            while len({node.writer.shared.offset for node in self.nodes} | {self.order.last}) > 1:
                for node in self.nodes:
                    await node.writer.applied(self.order.last)
        history.ended_s = self.loop.time()
        logs = [node.log for node in self.nodes if node.log is not None]
        events = await logs[0].read(LOG_STREAM, 0, events_max=1 << 20, bytes_max=1 << 30)
        history.log_id = logs[0].log_id
        history.log = [
            Fact(e.position, e.stream, e.seq, e.type, e.body.decode(), e.command_id, e.chain) for e in events
        ]


def durable(node: SimNode) -> Any:
    """What the replica of a node holds."""
    assert node.log is not None
    tables = vars(node.log.store.tables)  # type: ignore[attr-defined]  # of the in-memory engine
    return {name: value for name, value in tables.items() if name != "frames"}
