"""Followers of a service inside a program: in threads, and in the world of `huahuo.testing`."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from huahuo import Followed, Huahuo, Service
from huahuo.testing.world import AppWorld
from tests.support.patience import WITHIN_S
from tests.support.worlds.orders import orders

pytestmark = pytest.mark.slow


def test_a_service_in_a_thread_has_followers(tmp_path: Path) -> None:
    service = Service(tmp_path, entities=[orders()], plugins=[], port=0)
    got: list[str] = []
    came = threading.Event()

    @service.follower("orders-to-list", kinds=["order", "group"])
    async def to_list(events: Sequence[Followed]) -> None:
        got.extend(event.stream for event in events)
        if len(got) == 2:
            came.set()

    with service:
        service.send("place_order", item="tea", as_user=42)
        service.publish("group/ops", "opened", {})
        assert came.wait(WITHIN_S)
    assert got == ["order/1", "group/ops"]


def test_in_virtual_time_a_follower_goes_on_after_a_crash(tmp_path: Path) -> None:
    app = Huahuo(entities=[orders()], plugins=[])
    got: list[str] = []

    @app.follower("orders-to-list", kinds=["order"])
    async def to_list(events: Sequence[Followed]) -> None:
        got.extend(event.stream for event in events)

    world = AppWorld(app, tmp_path)
    world.send("place_order", item="tea", as_user=42)
    world.advance(seconds=1)
    world.crash()
    world.send("place_order", item="mug", as_user=42)
    world.advance(seconds=1)
    world.close()
    assert got == ["order/1", "order/2"]
