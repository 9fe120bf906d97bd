"""`huahuo.testing`: a service in virtual time, with clients that lose their connection, and crashes."""

from pathlib import Path

import pytest

from huahuo import Huahuo
from huahuo.testing.world import AppWorld
from huahuo.transport.client.model import CommandError, StreamDenied
from tests.support.worlds.orders import Order, orders


@pytest.fixture
def world(tmp_path: Path) -> AppWorld:
    return AppWorld(Huahuo(entities=[orders()]), tmp_path / "data")


def test_a_client_orders_and_follows(world: AppWorld) -> None:
    alice = world.client(42)
    assert alice.send("place_order", item="tea")["order_id"] == 1
    alice.follow("order/1")
    assert [event["type"] for event in alice.events("order/1")] == ["order_placed"]
    with pytest.raises(CommandError, match="conflict"):
        alice.send("cancel_order", order_id=1)
    with pytest.raises(StreamDenied):
        world.client(7).follow("order/1")
    world.close()


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
    world.close()


def test_a_reader_who_loses_the_right_gets_no_event_from_then_on(world: AppWorld) -> None:
    alice, bob = world.client(42), world.client(7)
    alice.send("place_order", item="tea")
    alice.follow("order/1")
    assert alice.send("give_order", order_id=1, to=7)["at"]["seq"] == 2
    assert [event["seq"] for event in alice.events("order/1")] == [1]
    bob.follow("order/1")
    assert [event["seq"] for event in bob.events("order/1")] == [1, 2]
    world.close()
