"""Effects where several nodes share the log: one runs each, and another goes on with it when that dies."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from huahuo import EffectRun
from huahuo.testing.world import run_virtual
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.effects import Works, in_works, never, one_step
from tests.support.worlds.scenario import scenario


def on_nodes(test: Callable[[Works, Works], Awaitable[None]]) -> None:
    """Run `test` with two nodes over one ordered log; the second is not open yet."""

    async def run() -> None:
        order = MemoryOrder()
        one, other = Works(seed=1), Works(seed=2)
        for node, name in ((one, "a"), (other, "b")):
            node.order, node.node = order, name
        await one.open()
        await test(one, other)

    run_virtual(run())


@scenario(on_nodes)
async def test_a_node_that_starts_leaves_the_work_of_living_nodes_alone(one: Works, other: Works) -> None:
    one.script.carry = never
    await one.post()
    await asyncio.sleep(1)
    await other.open()
    await asyncio.sleep(120)
    assert (len(one.script.runs), len(other.script.runs)) == (1, 0)
    assert await one.types() == ["effect_requested", "effect_claimed"]
    await other.close()
    await one.close(0)


@scenario(in_works, at_once=2)
async def test_a_run_that_does_not_end_while_its_node_rests_is_not_begun_beside_itself(works: Works) -> None:
    goes_on, under_way, most = asyncio.Event(), [0], [0]

    async def carry(job: Any, run: EffectRun) -> None:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        try:
            while not goes_on.is_set():
                try:
                    await goes_on.wait()
                except asyncio.CancelledError:  # it takes its time
                    continue
            await one_step(job, run)
        finally:
            under_way[0] -= 1

    works.script.carry = carry
    await works.post()
    await asyncio.sleep(1)
    await works.effects.rest()
    await works.effects.start()
    await asyncio.sleep(5)
    goes_on.set()
    async with asyncio.timeout(1000):
        while await works.open_rows():  # noqa: ASYNC110  virtual time
            await asyncio.sleep(1)
    await works.post()
    await works.idle()
    assert most == [1]
