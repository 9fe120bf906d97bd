"""`kill -9`, again and again, while a follower writes to its own database: each event is there exactly once.

The application is that of docs/entities.md, as it stands there.
"""

import asyncio
import contextlib
import sqlite3
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.transport.client.client import Client
from tests.support.drivers.snippets import block
from tests.support.patience import WITHIN_S, until
from tests.support.proofs import WHOLE
from tests.support.servers.serving import MASTER_KEY, Serving, serving

KILLS = 4 if WHOLE else 2
ORDERS = 300
PAGE = "docs/entities.md"
HANGS_AFTER = 40
HANG = f"""
from pathlib import Path

calls = []

async def hang() -> None:
    calls.append(1)
    if len(calls) >= {HANGS_AFTER} and not Path("free").exists():
        await asyncio.Event().wait()
"""
"""At most how many events one life of the service delivers, so that no kill comes too late."""

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def application(folder: Path, *, follower: bool) -> None:
    """Write the document's shop, with its follower in batches of one so that there is much to interrupt."""
    text = block(PAGE, "shop")
    if follower:
        own = block(PAGE, "own_cursor").replace("cursor=place)", "cursor=place, batch=1)")
        text += own.rstrip() + "\n    await hang()  # its transaction is committed\n" + HANG
    (folder / "shop.py").write_text(text, encoding="utf-8")


def copied(folder: Path) -> list[int]:
    """The positions in the follower's database, in the order of their rows."""
    with contextlib.closing(sqlite3.connect(folder / "crm.db", timeout=WITHIN_S)) as database:
        # The application has made the tables before it listens.
        return [row[0] for row in database.execute("SELECT position FROM changes ORDER BY rowid")]


def written(folder: Path, count: int) -> bool:
    """Whether the follower has written at least `count` rows."""
    return len(copied(folder)) >= count


def lag(server: Serving) -> int:
    """The metric."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=WITHIN_S) as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("huahuo_followers_lag"))))


async def order(server: Serving) -> None:
    """Place many orders."""
    async with asyncio.timeout(WITHIN_S), Client(server.url, token=server.token(42, "alice")) as client:
        for _ in range(ORDERS // 100):
            await asyncio.gather(*(client.send("place_order", item="tea") for _ in range(100)))


async def orders_in_the_log(server: Serving) -> list[int]:
    """The positions of the orders' events."""
    log = await SqliteLog.open(
        server.data, ambient=SystemAmbient(), master_key=bytes.fromhex(MASTER_KEY), build="test"
    )
    try:
        events = await log.read("log", 0, events_max=100_000, bytes_max=1 << 30)
        return [event.position for event in events if event.stream.startswith("order/")]
    finally:
        await log.close()


def test_over_kills_every_event_is_in_the_followers_database_exactly_once(tmp_path: Path) -> None:
    application(tmp_path, follower=False)
    with serving(tmp_path / "data", app="shop:app", folder=tmp_path) as server:
        asyncio.run(order(server))
        assert server.stop() == 0
        application(tmp_path, follower=True)
        server.start()
        for kill in range(KILLS):
            wanted = len(copied(tmp_path)) + 10
            until(partial(written, tmp_path, wanted), lambda: (len(copied(tmp_path)), server.log()[-2000:]))
            server.kill()
            assert len(copied(tmp_path)) < ORDERS, "killed too late to prove anything"
            if kill == KILLS - 1:
                (tmp_path / "free").touch()
            server.start()
        until(partial(written, tmp_path, ORDERS), lambda: (len(copied(tmp_path)), server.log()[-2000:]))
        until(lambda: lag(server) == 0, lambda: lag(server))
        assert server.stop() == 0
        assert copied(tmp_path) == asyncio.run(orders_in_the_log(server))
        assert len(copied(tmp_path)) == ORDERS
