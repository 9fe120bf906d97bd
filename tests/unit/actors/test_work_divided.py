"""Effects, timers and followers divided among nodes: each is done once, wherever it was asked for."""

import asyncio
import contextlib
import dataclasses
import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from huahuo import After, Command, Context, Decision, EffectRun, Entity, Event, Every, Followed, Outcome
from huahuo.actors.domain.plugin import Entities
from huahuo.actors.effects.facts import UnknownEffect
from huahuo.actors.entities.rendezvous_hash import Share
from tests.support.worlds.effects import Works, never, on_nodes, parcels
from tests.support.worlds.scenario import scenario

BOTH = ("a", "b")
MANY = 20


class Hung(Event, type="bell_hung"): ...


class Rang(Event, type="bell_rang"): ...


class Bell(Struct, frozen=True):
    rings: int = 0


class Hang(Command, action="hang_bell", creates=True):
    seconds: float
    again: bool = False


class Ring(Command): ...


def bells() -> Entity[Bell]:
    bell = Entity("bell", Bell)

    @bell.evolve
    def hung(state: Bell, event: Hung) -> Bell:
        return state

    @bell.evolve
    def rang(state: Bell, event: Rang) -> Bell:
        return replace(state, rings=state.rings + 1)

    @bell.decide
    def hang(state: Bell, command: Hang, ctx: Context) -> Outcome:
        timer = Every(command.seconds, Ring()) if command.again else After(command.seconds, Ring())
        return Decision([Hung()], effects=[timer])

    @bell.decide
    def ring(state: Bell, command: Ring, ctx: Context) -> Outcome:
        return [Rang()]

    return bell


FOLLOWERS = [f"crm-{number}" for number in range(6)]


def noting(got: list[str]) -> Callable[[Sequence[Followed]], Awaitable[None]]:
    async def take(events: Sequence[Followed]) -> None:
        got.extend(event.stream for event in events)

    return take


def follows(node: Works) -> Callable[[Entities], None]:
    """Followers that note in `node.followed` what they got."""
    node.followed = {name: [] for name in FOLLOWERS}  # type: ignore[attr-defined]

    def declare(entities: Entities) -> None:
        for name in FOLLOWERS:
            entities.following.follower(name, kinds=["parcel"])(noting(node.followed[name]))  # type: ignore[attr-defined]

    return declare


async def opened(node: Works) -> None:
    node.declare = follows(node)
    await node.open([node.parcels(), bells()])


async def both(one: Works, other: Works, *nodes: str) -> None:
    await asyncio.gather(one.divide(*nodes), other.divide(*nodes))


@scenario(on_nodes, opened)
async def test_an_effect_that_is_cancelled_on_another_node_stops(one: Works, other: Works) -> None:
    other.script.carry = never
    await both(one, other, "b")
    parcel = await one.post()
    await asyncio.sleep(1)
    await one.send("stop_parcel", parcel_id=parcel)
    await asyncio.sleep(1)
    assert (await one.types(parcel))[-1] == "effect_ended cancelled"


@scenario(on_nodes, opened, at_once=2)
async def test_effects_with_a_bound_are_one_part_so_that_the_bound_holds_over_all_nodes(
    one: Works, other: Works
) -> None:
    one.script.carry = other.script.carry = never
    await both(one, other, *BOTH)
    for _ in range(MANY):
        await one.post()
    await asyncio.sleep(3)
    assert sorted((len(one.script.runs), len(other.script.runs))) == [0, 2]


def rung(node: Works) -> int:
    return node.engine.api.timers.fired


@scenario(on_nodes, opened)
async def test_a_timer_that_repeats_goes_on_when_its_node_leaves_it(one: Works, other: Works) -> None:
    await both(one, other, *BOTH)
    for _ in range(6):
        await one.send("hang_bell", seconds=2, again=True)
    await asyncio.sleep(20)
    await one.divide()
    await other.divide("b")
    before = rung(one), rung(other)
    await asyncio.sleep(20)
    assert rung(one) == before[0]
    assert rung(other) - before[1] >= 6 * 9
    await both(one, other, *BOTH)
    await asyncio.sleep(20)
    assert rung(one) > before[0]


@scenario(on_nodes, opened)
async def test_a_follower_that_is_paused_on_another_node_pauses_and_is_shown_there(
    one: Works, other: Works
) -> None:
    await both(one, other, "b")
    name = FOLLOWERS[0]
    assert (await one.send("pause_projection", name=name))["type"] == "success"
    await one.post()
    await asyncio.sleep(2)
    assert other.followed[name] == []  # type: ignore[attr-defined]
    for node in (one, other):
        rows = (await node.send("get_projections"))["data"]
        assert {row["name"]: row["state"] for row in rows}[name] == "paused"
    assert (await one.send("resume_projection", name=name))["type"] == "success"
    await asyncio.sleep(2)
    assert other.followed[name]  # type: ignore[attr-defined]


@scenario(on_nodes, opened)
async def test_a_follower_whose_function_outlasts_its_end_runs_once_when_its_place_comes_back(
    one: Works, other: Works
) -> None:
    name, free = FOLLOWERS[0], asyncio.Event()
    calls: list[int] = []
    follower = one.engine.api.followers.by_name[name]

    async def deaf(events: Sequence[Followed]) -> None:
        calls.extend(event.seq for event in events)
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()

    follower.spec = dataclasses.replace(follower.spec, handler=deaf, wants_run=False)
    await one.divide("a")
    await one.post()
    await asyncio.sleep(1)
    await one.divide()
    await one.divide("a")
    await asyncio.sleep(1)
    others = [each for each in FOLLOWERS if each != name]
    assert all(one.engine.api.followers.by_name[each].runs for each in others)
    assert not follower.runs
    free.set()
    await asyncio.sleep(3)
    calls.clear()
    await one.post()
    await asyncio.sleep(3)
    assert calls == [1, 2]
    assert follower.runs


async def fails(_job: Any, _run: EffectRun) -> None:
    raise ValueError("not yet")


@scenario(on_nodes, opened, at_once=1, backoff_s=60.0)
async def test_an_effect_that_waits_here_after_it_began_elsewhere_moves_with_its_class(
    one: Works, other: Works
) -> None:
    here, there = (one, other) if Share("a", BOTH).has("parcel carry") else (other, one)
    here.script.carry = fails
    await both(one, other, here.node)
    await here.post()
    await asyncio.sleep(1)
    here.script.carry = never
    there.ambient.jump(5000)  # it is the first to wake
    await both(one, other, there.node)
    await asyncio.sleep(1)
    await both(one, other, *BOTH)
    await asyncio.sleep(200)
    assert (len(here.script.runs), len(there.script.runs)) == (2, 0)


@scenario(on_nodes, opened)
async def test_an_effect_whose_claim_was_in_doubt_when_its_node_rested_is_not_left_open(
    one: Works, other: Works
) -> None:
    await both(one, other, "a")
    one.log.lose = ["after"] * 1000
    posted = [await other.post() for _ in range(MANY)]
    await asyncio.sleep(0.5)
    assert one.script.runs == []
    one.log.lose.clear()
    await both(one, other)
    await both(one, other, *BOTH)
    await asyncio.sleep(5)
    for parcel in posted:
        assert (await other.types(parcel))[-1] == "effect_ended done"


@scenario(on_nodes, opened)
async def test_an_effect_of_an_unknown_name_refuses_a_nodes_part_before_anything_of_it_is_read(
    one: Works, other: Works
) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    await both(one, other, "a")
    one.script.carry = never
    await one.post()
    await one.close(0)
    await one.open([parcels(one.script, carries=False), bells()])
    with pytest.raises(UnknownEffect, match="carry"):
        await one.divide("a")
    await asyncio.sleep(1)
    gc.collect()
    assert faults == []
    with pytest.raises(UnknownEffect, match="carry"):
        await one.engine.api.known()
    await other.divide("b")
    await asyncio.sleep(5)
    await one.engine.api.known()
