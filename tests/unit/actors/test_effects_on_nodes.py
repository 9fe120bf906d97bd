"""Effects where several nodes share the log: one runs each, and another goes on with it when that dies."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from huahuo import EffectRun
from huahuo.actors.effects.facts import OpenEffect
from huahuo.actors.effects.queue import Entry
from huahuo.testing.world import run_virtual
from tests.support.models.memory_sequencer import MemoryOrder
from tests.support.worlds.effects import Works, in_works, never, one_step
from tests.support.worlds.scenario import scenario

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


@scenario(on_nodes)
async def test_work_of_a_node_that_died_goes_on_on_another_within_seconds(one: Works, other: Works) -> None:
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


@scenario(in_works, at_once=2)
async def test_an_effect_that_a_sweep_read_before_its_end_gives_its_place_back_once(works: Works) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    stale: list[tuple[int, OpenEffect]] = []
    effects, ended = works.effects, works.effects.ended

    async def carry(job: Any, run: EffectRun) -> None:
        rows = await works.log.rows("effect", "", limit=9)
        stale.extend(effects._read(rows))  # noqa: SLF001  what a look through the table reads
        await one_step(job, run)

    def end(entry: Entry, outcome: str) -> None:
        ended(entry, outcome)
        effects.asked(*stale.pop())

    works.script.carry = carry
    effects.ended = end  # type: ignore[method-assign]
    await works.post()
    await works.idle()
    effects.ended = ended  # type: ignore[method-assign]
    second = await works.post()
    async with asyncio.timeout(1000):
        await works.idle()
    assert await works.types(second) == ["effect_requested", "effect_claimed", "effect_ended done"]
    assert faults == []


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
