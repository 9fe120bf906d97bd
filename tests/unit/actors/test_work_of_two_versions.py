"""While nodes run two versions of an application, an older node passes over what it does not know."""

import asyncio

from msgspec import Struct
from msgspec.structs import replace

from huahuo import After, Command, Context, Decision, Entity, Event, Outcome
from tests.support.worlds.effects import Works, never, on_nodes, parcels
from tests.support.worlds.scenario import scenario

MANY = 6
BOTH = ("a", "b")


class Hung(Event, type="bell_hung"): ...


class Rang(Event, type="bell_rang"): ...


class Tolled(Event, type="bell_tolled"): ...


class Bell(Struct, frozen=True):
    rings: int = 0
    tolls: int = 0


class Hang(Command, action="hang_bell", creates=True):
    seconds: float


class Look(Command, action="look_at_bell"): ...


class Ring(Command): ...


class Toll(Command): ...


def bells(*, newer: bool) -> Entity[Bell]:
    """Bells that ring, and toll where code is `newer`."""
    bell = Entity("bell", Bell)

    @bell.evolve
    def hung(state: Bell, event: Hung) -> Bell:
        return state

    @bell.evolve
    def rang(state: Bell, event: Rang) -> Bell:
        return replace(state, rings=state.rings + 1)

    @bell.decide
    def look(state: Bell, command: Look, ctx: Context) -> Outcome:
        return []

    @bell.decide
    def ring(state: Bell, command: Ring, ctx: Context) -> Outcome:
        return [Rang()]

    if newer:

        @bell.evolve
        def tolled(state: Bell, event: Tolled) -> Bell:
            return replace(state, tolls=state.tolls + 1)

        @bell.decide
        def toll(state: Bell, command: Toll, ctx: Context) -> Outcome:
            return [Tolled()]

        @bell.decide
        def hang(state: Bell, command: Hang, ctx: Context) -> Outcome:
            return Decision(
                [Hung()], effects=[After(command.seconds, Toll()), After(command.seconds, Ring())]
            )

    return bell


class Gong(Struct, frozen=True):
    strikes: int = 0


class Put(Command, action="put_gong", creates=True):
    seconds: float


class Strike(Command): ...


class Struck(Event, type="gong_struck"): ...


def gongs() -> Entity[Gong]:
    """A kind that only newer code has."""
    gong = Entity("gong", Gong)

    @gong.evolve
    def struck(state: Gong, event: Struck) -> Gong:
        return replace(state, strikes=state.strikes + 1)

    @gong.decide
    def strike(state: Gong, command: Strike, ctx: Context) -> Outcome:
        return [Struck()]

    @gong.decide
    def put(state: Gong, command: Put, ctx: Context) -> Outcome:
        return Decision([Struck()], effects=[After(command.seconds, Strike())])

    return gong


async def opened(node: Works) -> None:
    """Node `a` has newer code, node `b` older code."""
    newer = node.node == "a"
    await node.open([parcels(node.script, carries=newer), bells(newer=newer), *([gongs()] if newer else [])])


async def ends(node: Works) -> list[str]:
    """How the effects of all parcels ended."""
    types = [await node.types(parcel) for parcel in range(1, MANY + 1)]
    return [one for each in types for one in each if one.startswith("effect_ended")]


@scenario(on_nodes, opened)
async def test_an_effect_that_only_newer_code_knows_holds_up_no_other_one_on_an_older_node(
    newer: Works, older: Works
) -> None:
    newer.script.weigh = never
    await asyncio.gather(newer.divide(*BOTH), older.divide(*BOTH))
    for parcel in [await newer.post(jobs=0) for _ in range(MANY)]:
        await newer.send("carry_more", parcel_id=parcel, jobs=1, weigh=True)
    await asyncio.sleep(1)
    assert 0 < len(newer.script.runs) < MANY
    await newer.divide()  # it leaves its part, as a node does that is updated
    await newer.send("carry_more", parcel_id=1, jobs=1)
    await older.divide("b")
    await asyncio.sleep(15)
    assert len(await ends(older)) == MANY
    await newer.divide("a")
    await older.divide("a")
    await asyncio.sleep(15)
    assert len(await ends(older)) == MANY + 1


@scenario(on_nodes, opened)
async def test_a_timer_of_a_kind_that_only_newer_code_has_holds_up_no_other_one_on_an_older_node(
    newer: Works, older: Works
) -> None:
    await asyncio.gather(newer.divide("b"), older.divide("b"))
    for _ in range(MANY):
        hung = await newer.send("hang_bell", seconds=5)
        await older.send("look_at_bell", bell_id=hung["bell_id"])  # loaded, it is decided in a round
    await newer.send("put_gong", seconds=5)
    await asyncio.sleep(10)
    assert await sums(older) == (MANY, 0)
    await older.divide("a")
    await newer.divide("a")
    await asyncio.sleep(10)
    assert await sums(newer) == (MANY, MANY)
    assert [event["type"] for event in await newer.engine.bodies("gong/1")] == ["gong_struck"] * 2


async def sums(node: Works) -> tuple[int, int]:
    """How often all bells rang and tolled, by the log."""
    types = [
        event["type"] for number in range(1, MANY + 1) for event in await node.engine.bodies(f"bell/{number}")
    ]
    return types.count("bell_rang"), types.count("bell_tolled")
