"""Three nodes that divide effects, timers, followers and mailboxes, on machines of a simulated network.

Each node is a replica (`sim_cluster`) with its duty and an application. Its machine dies, freezes, is cut
off, lags behind, is drained or stopped in order, and comes back.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.entities.decider import EntityError
from huahuo.actors.entities.rendezvous_hash import Share
from huahuo.cluster.coordination import Duty
from huahuo.cluster.members import SILENT_S, Member
from huahuo.errors import HuahuoError
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.eventstore.replicated.opening import open_replica
from huahuo.eventstore.replicated.writer import ReplicaWriter
from tests.support.checkers import divided
from tests.support.models.faulty_log import FaultyLog
from tests.support.models.hostile_sequencer import HostileSequencer
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.simulator.loop import Loop
from tests.support.worlds.logs import MASTER_KEY
from tests.support.worlds.orders import Engine
from tests.support.worlds.sim_cluster import NAMES, NetSequencer, NodeAmbient, serve_order
from tests.support.worlds.sim_mail import Outside, Servers, SimMail, crates, follow
from tests.support.worlds.simworld import end_everything

MOVES_S: Final = 10.0
"""What a dead node had is done by others after this long."""
SETTLES_S: Final = 60.0


class SimWorker:
    """A machine with a node that does its part of the work."""

    def __init__(self, loop: Loop, name: str, outside: Outside, servers: Servers) -> None:
        self.name = name
        self.disk = ModelDisk()
        self.host = loop.net.host(name)
        self.up = asyncio.Event()
        self.lives = 0
        self.talks = True
        self.packed: list[int] = []
        """Crates of which a user was told that they are packed."""
        self.shares: list[Share] = []
        """The parts that it was given in this life."""
        self.refused: list[str] = []
        self.duty: Duty | None = None
        self.log: StoreLog | None = None
        self._engine: Engine | None = None
        self._loop = loop
        self._outside = outside
        self._servers = servers
        self.mail: SimMail | None = None
        self._chance = random.Random(f"{loop.seed} {name}")

    @property
    def writer(self) -> ReplicaWriter:
        assert self.log is not None
        assert isinstance(self.log.writer, ReplicaWriter)
        return self.log.writer

    def start(self) -> None:
        self.lives += 1
        self.host.create_task(self._live())

    def crash(self) -> None:
        self._loop.crash(self.name)
        self.disk.crash(self._chance)
        self.up.clear()
        self.duty = self.log = self._engine = self.mail = None

    def restart(self) -> None:
        self.host.restart()
        self.start()

    async def stop(self) -> None:
        """An orderly end, as of a service that gets SIGTERM; then its machine is off."""
        duty, engine, log = self.duty, self._engine, self.log
        if duty is not None and engine is not None and log is not None:

            async def end() -> None:
                self.talks = False
                await duty.stop()
                await engine.brought.close()
                if self.mail is not None:
                    await self.mail.domain.close()
                await engine.directory.close(1.0)
                with suppress(HuahuoError):
                    await log.close()

            with suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await self.host.create_task(end())
        self.talks = True
        self.crash()

    async def _live(self) -> None:
        life = f"{self.name} {self._loop.seed} {self.lives}"
        ambient = NodeAmbient(life)

        async def opened(**more: Any) -> StoreLog:
            return await MemoryLog.open(
                self.disk, ambient=ambient, master_key=MASTER_KEY, build=f"life {self.lives}", **more
            )

        way = HostileSequencer(NetSequencer(), seed=life, fault_rate=0.02, lag_s=0.01)
        log = self.log = await open_replica(
            opened, ambient=ambient, master_key=MASTER_KEY, sequencer=way, node=self.name
        )
        await self.writer.joined()
        chance = random.Random(f"{life} effects")
        engine = self._engine = Engine(
            cast("FaultyLog", log),
            [crates(self._outside, self.name, chance)],
            ambient=ambient,
            declare=lambda entities: follow(self._outside, self.name, entities),
            shared=True,
        )
        mail = self.mail = SimMail(engine, ambient, self._servers, self.name, f"{life} mail")
        self.shares = []

        async def divide(share: Share) -> None:
            self.shares.append(share)
            await engine.brought.divide(share)
            await mail.domain.divide(share)

        async def work() -> None:
            await engine.brought.work()
            await mail.domain.work()

        async def rest() -> None:
            await mail.domain.rest()
            await engine.brought.rest()

        duty = Duty(
            log=log,
            ambient=ambient,
            node=self.name,
            tell=lambda beat: Member(f"http://{self.name}", "", "keys", beat, 0, 0),
            work=work,
            rest=rest,
            divide=divide,
        )
        await engine.brought.start()
        while True:
            with suppress(HuahuoError):
                await duty.start()
                break
            await asyncio.sleep(0.5)
        self.duty = duty
        self.up.set()
        await asyncio.gather(self._talk(engine), self._check(mail))

    async def _talk(self, engine: Engine) -> None:
        while True:
            await asyncio.sleep(0.5 + 2 * self._chance.random())
            if self.talks:
                seconds = 0.5 + self._chance.random() * 5
                try:
                    said = await engine.send("pack_crate", seconds=seconds, again=self._chance.random() < 0.1)
                except (AskTimeout, EntityError):
                    continue
                if said["type"] == "success":
                    self.packed.append(said["crate_id"])
                else:
                    self.refused.append(said["code"])

    async def _check(self, mail: SimMail) -> None:
        """Ask for checks, as the user of the mailboxes."""
        while True:
            await asyncio.sleep(1 + 3 * self._chance.random())
            if self.talks:
                with suppress(AskTimeout, EntityError):
                    await mail.check_some()


class SimDivision:
    """Plays faults on three nodes at work, then lets all of it come to its end."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.outside = Outside()
        self.order = MemoryOrder()
        self.order_host = loop.net.host("order")
        self.servers = Servers()
        self.nodes = [SimWorker(loop, name, self.outside, self.servers) for name in NAMES]
        self.marks: set[str] = set()
        self.wrong: list[str] = []
        self.events: list[StoredEvent] = []
        self.calm_from = 0
        """The position from which on no fault happens."""
        self._chance = random.Random(f"division {loop.seed}")

    async def play(self, faults: int) -> None:
        self.loop.net.set_flow_control(enabled=True)
        self.loop.net.set_defaults(latency=(0.001, 0.03))
        self.order_host.create_task(serve_order(self.order))
        for node in self.nodes:
            node.start()
        await self._all_share()
        first = self.nodes[0]
        assert first.mail is not None
        await first.host.create_task(first.mail.add_all())
        strikes: tuple[Callable[[], Awaitable[None]], ...] = (
            self._die, self._die, self._freeze, self._freeze, self._cut, self._crash_order, self._lag,
            self._drain, self._stop, self._fail_disk,
        )  # fmt: skip
        for _ in range(faults):
            await self._chance.choice(strikes)()
            await asyncio.sleep(self._chance.random() * 4)
        await self._all_share()
        await self._come_to_rest()

    # -- faults

    async def _die(self) -> None:
        """In two of three cases for so long that the others must have taken over its part."""
        await self._all_share()
        node = self._chance.choice(self.nodes)
        node.crash()
        if self._chance.random() < 0.33:
            await asyncio.sleep(self._chance.random() * SILENT_S)
        else:
            others = [one for one in self.nodes if one is not node]
            # What is asked for in the last two seconds may be under way.
            await asyncio.sleep(MOVES_S - 2)
            asked = await self._open(others[0])
            await asyncio.sleep(2)
            for one in others:
                if one.duty is None or set(one.duty.sharing) != {other.name for other in others}:
                    self.wrong.append(
                        f"{MOVES_S} s after the death of {node.name} {one.name} divides with it"
                    )
            await asyncio.sleep(8)  # what was claimed by the dead, and what waits for its next attempt
            if left := asked & await self._open(others[0]):
                self.wrong.append(f"open long after the death of {node.name}: {sorted(left)}")
            self.marks.add("a dead node's part moved")
        node.restart()
        await node.up.wait()

    async def _open(self, node: SimWorker) -> set[bytes]:
        assert node.log is not None
        return {key for key, _ in await node.log.rows("effect", "", limit=10_000)}

    async def _freeze(self) -> None:
        node = self._chance.choice(self.nodes)
        held = node.duty is not None and node.duty.holder == node.name
        self.loop.stop_machine(node.name)
        stood_s = self._chance.choice((1.0, 5.0, 8.0, 20.0)) * (0.5 + self._chance.random())
        await asyncio.sleep(stood_s)
        self.loop.go_on(node.name)
        if stood_s > MOVES_S:
            self.marks.add("a node woke up after its part had moved")
            if held:
                self.marks.add("the node with the work woke up after it had moved")

    async def _cut(self) -> None:
        some = self._chance.sample(NAMES, self._chance.randint(1, 2))
        self.loop.net.partition(some, ["order"])
        await asyncio.sleep(self._chance.random() * 15)
        self.loop.net.heal()
        self.marks.add("a partition healed")

    async def _crash_order(self) -> None:
        self.order_host.crash()
        await asyncio.sleep(self._chance.random() * 10)
        self.order_host.restart()
        self.order_host.create_task(serve_order(self.order))
        self.marks.add("the ordered log came back")

    async def _lag(self) -> None:
        name = self._chance.choice(NAMES)
        self.loop.net.set_link("order", name, latency=(0.5, 1.5))
        await asyncio.sleep(4)
        self.loop.net.set_link("order", name, latency=(0.001, 0.03))

    async def _drain(self) -> None:
        node = self._chance.choice(self.nodes)
        duty = node.duty
        if duty is not None:
            with suppress(HuahuoError, TimeoutError):
                async with asyncio.timeout(10):
                    await node.host.create_task(duty.unfit())
            await asyncio.sleep(self._chance.random() * 5)
            duty.fit()
            self.marks.add("a drained node came back")

    async def _stop(self) -> None:
        node = self._chance.choice(self.nodes)
        await node.stop()
        await asyncio.sleep(self._chance.random() * 3)
        node.restart()
        self.marks.add("a node stopped in order")

    async def _fail_disk(self) -> None:
        node = self._chance.choice(self.nodes)
        node.disk.fail_syncs.append(5)
        await asyncio.sleep(1)
        node.disk.fail_syncs.clear()

    # -- the end

    async def _all_share(self) -> None:
        """Until all nodes know that all of them share."""
        try:
            async with asyncio.timeout(SETTLES_S):
                while not all(  # noqa: ASYNC110  virtual time
                    node.duty is not None and set(node.duty.sharing) == set(NAMES) for node in self.nodes
                ):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            said = {node.name: (node.duty and (node.duty.holder, node.duty.sharing)) for node in self.nodes}
            raise AssertionError(f"not all nodes share {SETTLES_S} s after the last fault: {said}") from None
        self.marks.add("three nodes shared")

    async def _come_to_rest(self) -> None:
        """Work without faults for a while, then no new work: all of it ends."""
        await asyncio.sleep(10)  # what the faults left behind
        first = self.nodes[0]
        assert first.log is not None
        self.calm_from = first.log.position
        for readers in self.servers.readers.values():
            readers.clear()
        await asyncio.sleep(20)
        for node in self.nodes:
            node.talks = False
        await asyncio.sleep(20)
        self.servers.full = True
        assert first.mail is not None
        numbers = [row["id"] for row in (await first.mail.ask("get_all_emails"))["data"]]
        await first.host.create_task(first.mail.ask("check_emails", email_ids=numbers))
        await asyncio.sleep(20)
        for node in self.nodes:
            await node.writer.applied(self.order.last)
        self.events = await first.log.read(LOG_STREAM, 0, events_max=1 << 20, bytes_max=1 << 30)
        if left := await self._open(first):
            self.wrong.append(f"effects are open at the end: {sorted(left)}")
        if rows := await first.log.rows("checks", "", limit=100):
            self.wrong.append(f"{len(rows)} checks are open at the end")
        for address, readers in self.servers.readers.items():
            if len(readers) != 1:
                self.wrong.append(f"{address} was read by {sorted(readers)} in calm")
        self._note_marks()

    def _note_marks(self) -> None:
        marks, outside = self.marks, self.outside
        if divided.taken_over(self.events):
            marks.add("a run was taken over")
        if any(len({node for node, _ in runs}) > 1 for runs in outside.begun.values()):
            marks.add("an effect ran on two nodes")
        if any(len({node for node, _ in given}) > 1 for given in outside.delivered.values()):
            marks.add("a follower moved")
        if any(len(given) > len(set(given)) for given in outside.delivered.values()):
            marks.add("an event was delivered again")
        if any(event.type == "timer_fired" and b'"next_ms"' in event.body for event in self.events):
            marks.add("a repeating timer fired on")


def run(seed: int, faults: int) -> tuple[SimDivision, str]:
    """A run of this seed, and the hash of everything that happened."""
    loop = Loop(seed)
    world = SimDivision(loop)
    try:
        loop.run_until_complete(world.play(faults))
        return world, loop.trace_hash()
    finally:
        loop.run_until_complete(end_everything(loop))
        loop.close()
