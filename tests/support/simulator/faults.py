"""The faults of a simulated run: each kind strikes at random times, and all of them end when it heals."""

import asyncio
import contextlib
import errno
from collections.abc import Callable, Coroutine, Iterator, Sequence
from random import Random
from typing import Any

from huahuo.transport.client.model import ClientError
from tests.support.models.model_imap import ModelImap
from tests.support.simulator.device import Device
from tests.support.simulator.node import HOST, Node
from tests.support.simulator.token_side import TokenSide

DAY_MS = 86_400_000


class Faults:
    """See the module."""

    def __init__(
        self, node: Node, devices: Sequence[Device], clients: Sequence[Any], imap: ModelImap, down_s: float
    ) -> None:
        """`clients`: the devices, and all others that have a connection."""
        self._node = node
        self._devices = devices
        self._clients = clients
        self._imap = imap
        self._loop = node.loop
        self._chance = Random(f"faults {node.loop.seed}")
        self._down_s = down_s
        self._over = False
        self._cuts = 0
        self._kinds: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "power": self._power, "kill": self._kill, "cut in sync": self._cut, "write fails": self._write,
            "sync fails": self._sync, "disk full": self._full, "fence": self._fence,
            "second writer": self._second, "partition": self._partition, "slow link": self._slow,
            "reset": self._reset, "clock": self._clock, "stop server": self._stop_server,
            "stop device": self._stop_device, "expire": self._expire, "revoke": self._revoke,
            "drain": self._drain, "restart device": self._restart, "mail server": self._mail,
            "deploy": self._deploy, "crash at tokens": self._crash_at_tokens, "end grant": self._end_grant,
        }  # fmt: skip
        self.tokens: TokenSide | None = None
        self._struck: list[str] = []
        self._days = _in_turns((-1.0, -0.1, 0.01, 0.04, 2.0, 40.0), self._chance)
        self._mail_troubles = _in_turns(
            ("bye", "short", "silence", "slow", "limit", "renumber"), Random(f"mail {node.loop.seed}")
        )

    async def strike(self, kind: str, mean_s: float) -> None:
        """Let faults of this kind strike until `heal`."""
        chance = Random(f"{kind} {self._loop.seed}")
        while True:
            await asyncio.sleep(chance.expovariate(1 / mean_s))
            if self._over:
                return
            self._struck.append(kind)
            await self._kinds[kind]()

    @property
    def _victim(self) -> Node:
        """The service that a fault strikes."""
        return self._node

    @property
    def _nodes(self) -> Sequence[Node]:
        return self._node.services

    @property
    def struck(self) -> list[str]:
        """The kinds that struck, in order."""
        return self._struck

    async def revive(self) -> None:
        """Start the service again whenever it is gone, after a while."""
        await self._revive(self._node)

    async def _revive(self, node: Node) -> None:
        while True:
            await node.gone.wait()
            await asyncio.sleep(self._chance.uniform(0.1, self._down_s) if not self._over else 0.5)
            await node.start()

    def heal(self) -> None:
        """All faults end, also those that wait for their moment, and devices are slow no more."""
        self._over = True
        self._loop.net.heal()
        self._loop.net.set_defaults(latency=(0.001, 0.02))
        for device in self._clients:
            self._loop.net.set_link(device.name, HOST, latency=(0.001, 0.02))
            self._loop.net.set_link(HOST, device.name, latency=(0.001, 0.02))
            self._loop.go_on(device.name)
        for device in self._devices:
            device.habits.slow_s = 0.0
        for node in self._nodes:
            self._loop.go_on(node.name)
            node.disk_is_kind()
        if self.tokens is not None:
            self.tokens.crash_no_more()
        imap = self._imap
        imap.bye_in_fetch = imap.short_literals = imap.silences = 0
        imap.delay_s, imap.refuse_login = 0.0, ""

    async def end_update(self) -> None:
        """Of several nodes: see `ClusterFaults`."""

    def _some(self) -> list[Any]:
        count = self._chance.randint(1, len(self._clients))
        return self._chance.sample(list(self._clients), count)

    # -- the service and its disk

    async def _power(self) -> None:
        self._victim.crash("power")

    async def _kill(self) -> None:
        self._victim.crash("kill")

    async def _cut(self) -> None:
        self._victim.cut_at_next_commit(after=self._chance.random() < 0.5)

    async def _write(self) -> None:
        self._victim.disk.fail_writes.append(errno.EIO)

    async def _sync(self) -> None:
        disk = self._victim.disk
        disk.fail_syncs.append(errno.EIO)
        self._node.marks.sometimes("sync failed, nothing acknowledged")

    async def _full(self) -> None:
        disk = self._victim.disk
        disk.fail_writes += [errno.ENOSPC] * 50
        self._node.marks.sometimes("connection refused for a full disk")
        await asyncio.sleep(self._chance.uniform(1, 20))
        if len(disk.fail_writes) < 50:
            self._node.marks.sometimes("disk full, then recovered")
        disk.fail_writes.clear()

    async def _fence(self) -> None:
        victim = self._victim
        if not victim.up.is_set():
            return  # a service that starts gives up where another process writes
        disk = victim.disk
        disk.fence_off()
        await asyncio.sleep(self._chance.uniform(0.5, 10))
        self._node.marks.sometimes("fence refused a writer")
        disk.let_in()

    async def _second(self) -> None:
        await self._victim.second_writer()

    async def _drain(self) -> None:
        await self._victim.drain()

    async def _deploy(self) -> None:
        """Newer code from the next life on, which reads what the older code wrote."""
        self._node.newer = True
        await self._node.drain()

    async def _clock(self) -> None:
        marks, days = self._node.marks, next(self._days)
        marks.sometimes("clock back a day", days <= -1)
        marks.sometimes("clock on by days", days >= 2)
        self._node.offset_ms += int(days * DAY_MS)

    async def _stop_server(self) -> None:
        machine = self._victim.name
        self._loop.stop_machine(machine)
        await asyncio.sleep(self._chance.uniform(2, 90))
        self._loop.go_on(machine)
        self._node.marks.sometimes("machine stopped and went on")

    # -- the network and the devices

    async def _partition(self) -> None:
        names = [device.name for device in self._some()]
        self._loop.net.partition(names, [HOST])
        await asyncio.sleep(self._chance.uniform(1, 60))
        self._loop.net.heal()
        self._node.marks.sometimes("partition healed")

    async def _slow(self) -> None:
        """One way or both ways, seconds to minutes: what is on its way comes late."""
        devices, late = self._some(), self._chance.uniform(1, 30)
        ways = self._chance.choice((1, 2, 3))
        for device in devices:
            if ways & 1:
                self._loop.net.set_link(device.name, HOST, latency=(late / 2, late))
            if ways & 2:
                self._loop.net.set_link(HOST, device.name, latency=(late / 2, late))
        await asyncio.sleep(self._chance.uniform(1, 60))
        for device in devices:
            self._loop.net.set_link(device.name, HOST, latency=(0.001, 0.02))
            self._loop.net.set_link(HOST, device.name, latency=(0.001, 0.02))

    async def _reset(self) -> None:
        for device in self._some():
            device.cut()

    async def _stop_device(self) -> None:
        device = self._chance.choice(list(self._clients))
        self._loop.stop_machine(device.name)
        await asyncio.sleep(self._chance.uniform(2, 120))
        self._loop.go_on(device.name)
        self._node.marks.sometimes("machine stopped and went on")

    async def _restart(self) -> None:
        device = self._chance.choice(list(self._clients))
        self._loop.go_on(device.name)
        device.restart()
        self._node.marks.sometimes("device restarted")

    async def _expire(self) -> None:
        """From now on this device has short tokens; it is restarted, or it would keep the one that it has."""
        device = self._chance.choice(list(self._devices))
        device.habits.ttl_s = self._chance.uniform(5, 60)
        self._loop.go_on(device.name)
        device.restart()

    async def _revoke(self) -> None:
        admin = next((one for one in self._devices if one.habits.admin and one.online), None)
        if admin is None or admin.client is None:
            return
        user, began_s = self._chance.choice(list(self._devices)).user, self._loop.time()
        with contextlib.suppress(ClientError, TimeoutError):
            async with asyncio.timeout(20):
                await admin.client.send("revoke", user_id=user)
                for device in self._clients:
                    if device.user == user:
                        device.revoked(began_s)

    async def _crash_at_tokens(self) -> None:
        if self.tokens is not None:
            self.tokens.crash_next = self._chance.choice(("power", "kill"))

    async def _end_grant(self) -> None:
        """Of the last account alone: the others must live on."""
        if self.tokens is not None:
            self.tokens.end(list(self.tokens.accounts.values())[-1])

    async def _mail(self) -> None:
        imap, chance = self._imap, self._chance
        kind = next(self._mail_troubles)
        imap.bye_in_fetch += kind == "bye"
        imap.short_literals += kind == "short"
        imap.silences += kind == "silence"
        imap.delay_s = 0.5 if kind == "slow" else 0.0
        imap.refuse_login = "[LIMIT] too many" if kind == "limit" else ""
        if kind == "renumber":
            imap.renumber()
            self._node.marks.sometimes("mailbox renumbered")
        await asyncio.sleep(chance.uniform(1, 60))
        imap.delay_s, imap.refuse_login = 0.0, ""


def _in_turns[T](some: Sequence[T], chance: Random) -> Iterator[T]:
    """All of them by chance, each as often as the others."""
    while True:
        yield from chance.sample(some, len(some))
