"""100,000 idle actors (in the short form 20,000) have a bounded cost in memory and time."""

import asyncio
import gc
import tracemalloc

import pytest
from pykka import ActorRegistry

from huahuo.actors import LoopActor, LoopRef, Runtime
from huahuo.actors.entities.directory import DirectoryLimits
from huahuo.actors.entities.entity import CatchUp
from tests.support.proofs import WHOLE
from tests.support.worlds.actors import settled
from tests.support.worlds.entities import Account, Town, in_town
from tests.support.worlds.scenario import scenario

pytestmark = pytest.mark.virtual_time

COUNT = 100_000 if WHOLE else 20_000
MEASURED = COUNT // 5  # fewer, because tracing allocations triples the time of a start


class Idle(LoopActor):
    """Has handled one message and waits for the next."""

    def __init__(self) -> None:
        super().__init__()
        self.handled = 0

    def on_receive(self, message: object) -> None:
        self.handled += 1


async def idlers(runtime: Runtime, count: int) -> list[LoopRef[Idle]]:
    refs = [runtime.start(Idle) for _ in range(count)]
    for ref in refs:
        ref.tell("once")
    await settled(runtime)
    return refs


@pytest.mark.slow
async def test_an_idle_actor_costs_less_than_a_kibibyte_and_all_of_them_can_stop() -> None:
    runtime = Runtime(asyncio.get_running_loop())
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    refs = await idlers(runtime, MEASURED)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    refs += await idlers(runtime, COUNT - MEASURED)
    assert runtime.alive == COUNT
    assert ActorRegistry.get_by_urn(refs[-1].actor_urn) is refs[-1]
    for ref in refs:  # oldest first: the slowest order for a list
        assert ref.stop_if_idle()
    assert runtime.alive == 0
    bytes_an_actor = (after - before) / MEASURED
    print(f"\n{bytes_an_actor:.0f} bytes an idle actor")
    assert bytes_an_actor < 1024


@pytest.mark.slow
@scenario(in_town, limits=DirectoryLimits(idle_s=100_000))
async def test_a_resident_entity_costs_less_than_640_bytes_besides_its_state(town: Town) -> None:
    async def wake(numbers: range) -> None:
        for number in numbers:
            await town.directory.ask("account", number, CatchUp())

    await wake(range(1000))
    gc.collect()
    tracemalloc.start()
    states = [Account(f"account/{number}") for number in range(1000)]
    state_bytes = tracemalloc.get_traced_memory()[0] / len(states)
    del states
    before, _ = tracemalloc.get_traced_memory()
    await wake(range(1000, MEASURED))
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert town.directory.resident == MEASURED
    bytes_an_entity = (after - before) / (MEASURED - 1000) - state_bytes
    print(f"\n{bytes_an_entity:.0f} bytes an entity, {state_bytes:.0f} bytes its state")
    assert bytes_an_entity < 640
