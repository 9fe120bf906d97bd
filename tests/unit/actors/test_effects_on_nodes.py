"""Effects where several nodes share the log: one runs each, and another goes on with it when that dies."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from huahuo import EffectRun
from huahuo.eventstore.sequencer.memory import MemoryOrder
from huahuo.testing.virtual_loop import VirtualLoop
from tests.support.worlds.effects import Works

TAKEN_OVER_WITHIN_S = 12


def on_nodes(test: Callable[[Works, Works], Awaitable[None]]) -> None:
    """Run `test` with two nodes over one ordered log; the second is not open yet."""

    async def run() -> None:
        order = MemoryOrder()
        one, other = Works(seed=1), Works(seed=2)
        for node, name in ((one, "a"), (other, "b")):
            node.order, node.node = order, name
        await one.open()
        await test(one, other)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def never(_job: Any, _run: EffectRun) -> None:
    await asyncio.Event().wait()


def test_a_node_that_starts_leaves_the_work_of_living_nodes_alone() -> None:
    async def test(one: Works, other: Works) -> None:
        one.script.carry = never
        await one.post()
        await asyncio.sleep(1)
        await other.open()
        await asyncio.sleep(120)
        assert (len(one.script.runs), len(other.script.runs)) == (1, 0)
        assert await one.types() == ["effect_requested", "effect_claimed"]
        await other.close()
        await one.close(0)

    on_nodes(test)


def test_work_of_a_node_that_died_goes_on_on_another_within_seconds() -> None:
    async def test(one: Works, other: Works) -> None:
        one.script.carry = never
        await one.post()
        await other.open()
        await asyncio.sleep(60)
        one.disk.fence_off()
        await one.abandon()
        one.log.writer.halt("killed")  # type: ignore[attr-defined]
        await asyncio.sleep(TAKEN_OVER_WITHIN_S)
        assert len(other.script.runs) == 1
        await other.idle()
        assert await other.types() == [
            "effect_requested", "effect_claimed", "effect_claimed", "effect_ended done",
        ]  # fmt: skip
        await other.close()
        await one.log.close()

    on_nodes(test)


def test_an_effect_runs_on_the_node_that_decided_it() -> None:
    async def test(one: Works, other: Works) -> None:
        await other.open()
        first, second = await one.post(), await other.post()
        await one.idle()
        await other.idle()
        await asyncio.sleep(40)
        assert (len(one.script.runs), len(other.script.runs)) == (1, 1)
        for parcel in (first, second):
            types = await one.types(parcel)
            assert types == ["effect_requested", "effect_claimed", "effect_ended done"]
        await other.close()
        await one.close()

    on_nodes(test)
