"""Checks over the real service: a data directory whose events were replaced under the same numbers."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from huahuo.transport.client.client import Client
from huahuo.transport.client.cursors import FileCursors
from tests.support.drivers.http import ask
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def publish(server: Serving, *texts: str) -> None:
    async with (
        asyncio.timeout(WITHIN_S),
        Client(server.url, token=server.token(1, "root", admin=True)) as client,
    ):
        for text in texts:
            await client.send("publish", stream="group/ops", type="noted", text=text)


@contextlib.contextmanager
def swapped(tmp_path: Path, cursors: Path) -> Iterator[Serving]:
    """A service over a copy of its directory that went on by itself; `cursors`: of a client before that."""
    copy = tmp_path / "copy"
    with serving(tmp_path / "data") as server:
        asyncio.run(publish(server, "a", "b"))
        server.stop()
        shutil.copytree(server.data, copy)
        server.start()
        asyncio.run(publish(server, "c", "d"))
        asyncio.run(read(server, cursors, ["a", "b", "c", "d"]))
        server.stop()
        shutil.move(server.data, tmp_path / "lost")
        shutil.move(copy, server.data)
        server.start()
        asyncio.run(publish(server, "x", "y"))
        yield server


async def read(server: Serving, cursors: Path, texts: list[str]) -> None:
    """A client of group/ops that reads these events and keeps its place."""
    token = server.token(7, "eve", groups=("ops",))
    store = FileCursors(cursors)
    async with asyncio.timeout(WITHIN_S), Client(server.url, token=token, cursors=store) as client:
        async with client.events("group/ops", first="start") as events:
            seen = [(await anext(events)).data["text"] for _ in texts]
        assert seen == texts


@contextlib.asynccontextmanager
async def connected(server: Serving) -> AsyncIterator[RawClient]:
    async with asyncio.timeout(WITHIN_S), raw(server.url.replace("http", "ws", 1), "huahuo.v1") as client:
        yield client


def alarms(server: Serving) -> float:
    lines = ask(f"{server.url}/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("huahuo_cursor_ahead_total"))


def test_a_client_that_saw_other_events_gets_a_reset_and_a_snapshot_and_raises_the_alarm(
    tmp_path: Path,
) -> None:
    cursors = tmp_path / "cursors.json"
    with swapped(tmp_path, cursors) as server:
        kept = json.loads(cursors.read_text())["group/ops"]
        assert kept["seq"] == kept["check"][0] == 4

        async def come_back(**resume: Any) -> tuple[str, list[str]]:
            async with connected(server) as client:
                answer = await client.authenticate(
                    server.token(7, "eve", groups=("ops",)),
                    resume={"log": kept["log"], "cursors": {"group/ops": 4}, **resume},
                )
                assert answer["log"] == kept["log"]
                live = await client.until("live", stream="group/ops")
                assert len(live["check"]) == 16
                kinds = [one["type"] for one in client.seen if one.get("stream") == "group/ops"]
                return answer["streams"]["group/ops"]["outcome"], kinds

        async def main() -> None:
            # Without a check nothing tells the two histories apart.
            assert await come_back() == ("resumed", ["live"])
            assert alarms(server) == 0
            with_check = await come_back(checks={"group/ops": kept["check"]})
            assert with_check == ("reset", ["snapshot", "live"])
            assert alarms(server) == 1

        asyncio.run(main())
        assert "check_differs_from_log" in server.log()
