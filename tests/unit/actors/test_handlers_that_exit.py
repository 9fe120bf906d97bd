"""A handler that raises what is no `Exception` costs its own command, neither its entity nor the service."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from huahuo import (
    Command,
    Context,
    Decision,
    Effect,
    EffectFailed,
    Entity,
    Event,
    Followed,
    Huahuo,
    Outcome,
    Principal,
    Rows,
)
from huahuo.actors.domain.structs import HandlerExit
from huahuo.testing.world import AppWorld
from huahuo.transport.client.model import CommandError
from tests.support.worlds.orders import ALICE, BOB, Engine, in_engine


class Odd(BaseException): ...


ENDS = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Odd]
type End = type[BaseException]


class Done(Event, type="door_done"):
    exits: bool = False


class Door(Struct, frozen=True):
    uses: int = 0


class Use(Command, action="use", creates=True):
    where: str = ""


class Knock(Command, action="knock"): ...


class Ring(Effect): ...


def doors(end: End) -> Entity[Door]:
    door = Entity("door", Door)

    @door.evolve
    def done(state: Door, event: Done) -> Door:
        if event.exits:
            raise end
        return Door(state.uses + 1)

    @door.decide
    def use(state: Door, command: Use, ctx: Context) -> Outcome:
        if command.where == "decide":
            raise end
        return Decision(
            [Done(command.where == "evolve")], effects=[Ring()] if command.where == "effect" else []
        )

    @door.decide
    def failed(state: Door, command: EffectFailed, ctx: Context) -> Outcome:
        return [Done() for _ in range(10)] if command.error_type == end.__name__ else []

    @door.effect(retries=0)
    async def ring(job: Ring, run: Any) -> None:
        raise end

    @door.decide
    def knock(state: Door, command: Knock, ctx: Context) -> Outcome:
        return [Done()]

    @door.readers
    def may_read(state: Door, who: Principal) -> bool:
        if who == BOB:
            raise end
        return True

    @door.query("get_door")
    def get_door(state: Door, who: Principal) -> object:
        raise end

    return door


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("action", "fields", "handler"),
    [
        ("use", {"where": "decide"}, "use"),
        ("use", {"where": "evolve"}, "done"),
        ("get_door", {"door_id": 1}, "get_door"),
    ],
)
def test_the_handler_is_named_and_the_others_go_on(action: str, fields: Any, handler: str, end: End) -> None:
    async def test(engine: Engine) -> None:
        await engine.send("use")
        with pytest.raises(
            HandlerExit, match=rf"test_handlers_that_exit\.py:\d+: {handler} raises {end.__name__}"
        ):
            await engine.send(action, **fields)
        assert (await engine.send("knock", door_id=1))["type"] == "success"
        assert (await engine.api.state("door", 1))[0] == Door(2)

    in_engine(test, [doors(end)])


@pytest.mark.parametrize("end", ENDS)
def test_readers_that_exit_are_a_fault_of_that_question(end: End) -> None:
    async def test(engine: Engine) -> None:
        await engine.send("use")
        with pytest.raises(HandlerExit, match=f"may_read raises {end.__name__}"):
            await engine.send("knock", BOB, door_id=1)
        assert (await engine.send("knock", ALICE, door_id=1))["type"] == "success"

    in_engine(test, [doors(end)])


@pytest.mark.parametrize("end", ENDS)
def test_effects_followers_lists_and_authorize_that_exit_do_not_end_the_service(
    tmp_path: Path, end: End
) -> None:
    def authorize(who: Principal, stream: str, right: str) -> bool:
        raise end

    app = Huahuo(entities=[doors(end)], authorize=authorize)
    delivered: list[int] = []

    @app.query("get_doors")
    def get_doors(who: Principal) -> Rows:
        raise end

    @app.follower("doors", kinds=["door"], retries=0)
    async def doors_out(events: Sequence[Followed]) -> None:
        if any(event.seq == 1 for event in events):
            raise end
        delivered.extend(event.seq for event in events)

    world = AppWorld(app, tmp_path / "data")
    alice = world.client(42)
    assert alice.send("use", where="effect")["door_id"] == 1
    world.advance(hours=1)
    assert world.state("door", 1) == (Door(11), 11), "the effect has failed as with any exception"
    assert delivered == list(range(2, 12)), "the event that ended the follower is a dead letter"
    with pytest.raises(CommandError, match="internal"):
        alice.send("get_doors")
    with pytest.raises(CommandError):
        alice.send("publish", stream="group/ops", type="seen", data={})
    assert alice.send("knock", door_id=1)["at"]["seq"] == 12
    world.close()
