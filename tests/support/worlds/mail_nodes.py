"""The mail domain on two nodes over one ordered log, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from huahuo.mailcheck.checks.backoff import Pace
from huahuo.mailcheck.plugin.domain import MailSettings
from huahuo.testing.world import VirtualAmbient, VirtualLoop
from tests.support.models.faulty_log import StepExecutor
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.mail_world import MailWorld

BOTH = ("a", "b")
POLL_S = 100.0


def on_nodes(test: Callable[[MailWorld, MailWorld], Awaitable[None]], **settings: Any) -> None:
    """Run `test` on two nodes that divide nothing yet. Their history must be sound."""

    async def run() -> None:
        order = MemoryOrder()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        bounds = MailSettings(**{"watch": Pace(poll_s=POLL_S), **settings})
        nodes = [MailWorld(VirtualAmbient(loop, seed), bounds, StepExecutor()) for seed in (1, 2)]
        for node, name in zip(nodes, BOTH, strict=True):
            node.order, node.node = order, name
            await node.open()
            await node.start()
        one, other = nodes
        await test(one, other)
        await one.sound()
        for node in nodes:
            await node.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def both(one: MailWorld, other: MailWorld, *nodes: str) -> None:
    await asyncio.gather(one.divide(*nodes), other.divide(*nodes))
