"""`kill -9` in the middle of many effects: all go on after the start, and each order is shipped once."""

import asyncio
import urllib.request
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.transport.client.client import Client
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import MASTER_KEY, Serving, serving

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop" / "shop.py"
ORDERS = 100
REPORT = "await run.emit(Packed(percent=percent))"
HELD = """
        while percent == 50 and int(run.id) % 3 and not Path("free").exists():
            await asyncio.sleep(0.01)
"""
"""Two of three orders are packed to half and no further, so that no kill comes too late."""

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def order_and_kill(server: Serving) -> None:
    """Place orders, and kill the service when the first one is being packed."""
    async with asyncio.timeout(WITHIN_S), Client(server.url, token=server.token(42, "alice")) as client:
        first = await client.send("place_order", item="tea")
        async with client.events(f"order/{first['order_id']}", first="start") as events:
            await asyncio.gather(*(client.send("place_order", item="tea") for _ in range(ORDERS - 1)))
            async for event in events:
                if event.type == "order_progress":
                    break
            server.kill()


async def whole_log(server: Serving) -> list[StoredEvent]:
    """Every event on disk."""
    log = await SqliteLog.open(
        server.data, ambient=SystemAmbient(), master_key=bytes.fromhex(MASTER_KEY), build="test"
    )
    try:
        return await log.read("log", 0, events_max=100_000, bytes_max=1 << 30)
    finally:
        await log.close()


async def all_ended(server: Serving) -> None:
    """Wait until every effect has ended, which administrators see in `log`."""
    token = server.token(1, "root", admin=True)
    async with (
        asyncio.timeout(WITHIN_S),
        Client(server.url, token=token, client="watcher") as client,
        client.events("log", first="start") as events,
    ):
        left = ORDERS
        async for event in events:
            left -= event.type == "effect_ended"
            if not left:
                return


def effects_open(server: Serving) -> int:
    """The metric."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=WITHIN_S) as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("huahuo_effects_open "))))


async def test_after_kill_9_every_order_is_packed_and_shipped_exactly_once(tmp_path: Path) -> None:
    text = SHOP.read_text(encoding="utf-8")
    assert text.count(REPORT) == 1
    held = f"import asyncio\nfrom pathlib import Path\n{text.replace(REPORT, REPORT + HELD)}"
    (tmp_path / "shop.py").write_text(held, encoding="utf-8")
    with serving(tmp_path / "data", app="shop:app", folder=tmp_path) as server:
        await order_and_kill(server)
        before = await whole_log(server)
        (tmp_path / "free").touch()
        server.start()
        await all_ended(server)
        assert await asyncio.to_thread(effects_open, server) == 0
        assert server.stop() == 0
        after = await whole_log(server)
    open_then = Counter(event.type for event in before)
    assert open_then["effect_ended"] < open_then["effect_requested"], "killed too late to prove anything"
    assert open_then["order_progress"] > 0, "killed too early to prove anything"
    shipped = Counter(event.stream for event in after if event.type == "order_shipped")
    assert shipped == {f"order/{n}": 1 for n in range(1, ORDERS + 1)}
    ends = Counter(msgspec.json.decode(event.body)["id"] for event in after if event.type == "effect_ended")
    assert sorted(ends) == list(range(1, ORDERS + 1))
    assert set(ends.values()) == {1}
