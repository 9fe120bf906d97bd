"""`huahuo.testing`: a service in virtual time, with clients that lose their connection, and crashes."""

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from huahuo import Command, Context, Decision, Entity, Event, Every, Huahuo, Outcome
from huahuo.testing.pytest_plugin import must_be_an_application, must_block
from huahuo.testing.world import AppWorld
from huahuo.transport.client.model import CommandError, StreamDenied
from tests.support.worlds.orders import Order, orders


class Ticked(Event, type="clock_ticked"):
    at_ms: int


class Ticks(Struct, frozen=True):
    """`at_s`: when it ticked, in seconds since the first event."""

    began_ms: int = 0
    at_s: tuple[float, ...] = ()


class Begin(Command, action="begin", creates=True): ...


class Tick(Command): ...


def ticking() -> Entity[Ticks]:
    clock = Entity("clock", Ticks)

    @clock.evolve
    def ticked(state: Ticks, event: Ticked) -> Ticks:
        if not state.began_ms:
            return Ticks(event.at_ms)
        return Ticks(state.began_ms, (*state.at_s, (event.at_ms - state.began_ms) / 1000))

    @clock.decide(Begin)
    def begin(state: Ticks, command: Begin, ctx: Context) -> Outcome:
        return Decision([Ticked(ctx.now_ms)], effects=[Every(86_400, Tick(), name="day")])

    @clock.decide(Tick)
    def tick(state: Ticks, command: Tick, ctx: Context) -> Outcome:
        return [Ticked(ctx.now_ms)]

    return clock


@pytest.fixture
def world(tmp_path: Path) -> Iterator[AppWorld]:
    world = AppWorld(Huahuo(entities=[orders()]), tmp_path / "data")
    yield world
    world.close()


@pytest.mark.parametrize(
    ("given", "said"), [(None, "its return is missing"), (orders(), "Entity('order', Order) is none")]
)
def test_a_fixture_that_returns_no_application_is_told_so(given: object, said: str) -> None:
    with pytest.raises(pytest.fail.Exception) as failed:
        must_be_an_application(given)
    assert str(failed.value) == f"the fixture `application` returns your Huahuo(…): {said}"


def test_a_test_that_is_a_coroutine_is_told_that_the_calls_block() -> None:
    async def test_orders(app: AppWorld) -> None:
        del app

    with pytest.raises(pytest.fail.Exception) as failed:
        must_block(test_orders)
    said = "calls of the fixture `app` block: write def test_orders(app), without async"
    assert str(failed.value) == said


def test_a_client_orders_and_follows(world: AppWorld) -> None:
    alice = world.client(42)
    assert alice.send("place_order", item="tea")["order_id"] == 1
    alice.follow("order/1")
    assert [event["type"] for event in alice.events("order/1")] == ["order_placed"]
    with pytest.raises(CommandError, match="conflict"):
        alice.send("cancel_order", order_id=1)
    with pytest.raises(StreamDenied):
        world.client(7).follow("order/1")


def test_a_lost_connection_and_a_crash_lose_and_repeat_no_event(world: AppWorld) -> None:
    alice = world.client(42)
    alice.send("place_order", item="tea")
    alice.follow("order/1")
    for percent in (10, 20):
        world.send("report_order", order_id=1, percent=percent)
    alice.drop_connection()
    world.send("report_order", order_id=1, percent=30)
    world.crash()
    world.send("report_order", order_id=1, percent=40)
    world.advance(hours=3)
    assert [event["seq"] for event in alice.events("order/1")] == [1, 2, 3, 4, 5]
    assert world.state("order", 1) == (Order(42, "tea", 40, "placed"), 5)


def test_two_clients_of_one_user_are_two_devices(world: AppWorld) -> None:
    phone, laptop = world.client(42), world.client(42)
    placed = [device.send("place_order", item="tea")["order_id"] for device in (phone, laptop, phone)]
    assert placed == [1, 2, 3], "none is taken for a repeat of another's"
    for device in (phone, laptop):
        device.follow("order/3")
        assert len(device.events("order/3")) == 1


def test_a_crash_while_effects_run_leaves_no_warning_to_a_test_that_takes_warnings_for_errors(
    world: AppWorld,
) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", RuntimeWarning)
        for life in range(3):
            alice = world.client(42)
            for number in range(4):
                assert alice.send("place_order", item="tea")["order_id"] == 4 * life + number + 1
            world.crash()
            gc.collect()  # which warns of coroutines that were never awaited
    assert [str(one.message) for one in warned if one.category is RuntimeWarning] == []


def test_a_year_goes_by_in_seconds_beside_a_client_that_stays_connected(world: AppWorld) -> None:
    alice = world.client(42)
    alice.send("place_order", item="tea")
    alice.follow("order/1")
    world.advance(days=365)
    world.send("report_order", order_id=1, percent=10)
    assert [event["seq"] for event in alice.events("order/1")] == [1, 2]


def test_what_falls_due_within_a_long_time_is_done_at_its_moment(tmp_path: Path) -> None:
    world = AppWorld(Huahuo(entities=[ticking()]), tmp_path / "data")
    world.send("begin", as_user=1)
    world.advance(days=120, seconds=1)
    ticks, _ = world.state("clock", 1)
    assert ticks.at_s == tuple(day * 86_400 for day in range(1, 121))
    world.close()


def test_a_reader_who_loses_the_right_gets_no_event_from_then_on(world: AppWorld) -> None:
    alice, bob = world.client(42), world.client(7)
    alice.send("place_order", item="tea")
    alice.follow("order/1")
    assert alice.send("give_order", order_id=1, to=7)["at"]["seq"] == 2
    assert [event["seq"] for event in alice.events("order/1")] == [1]
    bob.follow("order/1")
    assert [event["seq"] for event in bob.events("order/1")] == [1, 2]
