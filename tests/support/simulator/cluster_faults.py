"""Faults of a simulated cluster: those of one service strike one node, and some are of clusters alone."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from tests.support.models.model_imap import ModelImap
from tests.support.simulator.cluster import ORDER, Cluster, Member
from tests.support.simulator.device import Device
from tests.support.simulator.faults import Faults
from tests.support.simulator.node import HOST

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
