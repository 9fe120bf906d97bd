"""Durable Streams of a service that is killed, and of one that has them switched off."""

from pathlib import Path

import pytest

from tests.support.drivers.http import client
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}


def producer(seq: int) -> dict[str, str]:
    return {"Producer-Id": "p", "Producer-Epoch": "0", "Producer-Seq": str(seq)}


async def test_a_producer_that_repeats_after_a_restart_is_known(tmp_path: Path) -> None:
    with serving(tmp_path / "data", HUAHUO_DURABLE_STREAMS="open") as server:
        async with client(server.url) as c:
            await c.put("/ds/a", headers=JSON)
            for number in range(20):
                await c.post("/ds/a", headers=JSON | producer(number), content=str(number))
                if number % 5 == 0:
                    server.kill()
                    server.start()
                again = await c.post("/ds/a", headers=JSON | producer(number), content=str(number))
                assert again.status_code == 204
            assert (await c.get("/ds/a")).json() == list(range(20))
            foreign = {"Host": "somewhere.example"}
            assert (await c.get("/ds/a", headers=foreign)).status_code == 401


async def test_switched_off_there_are_none(tmp_path: Path) -> None:
    with serving(tmp_path / "data", HUAHUO_DURABLE_STREAMS="off") as server:
        async with client(server.url, server.token(1, "root", admin=True)) as c:
            assert (await c.put("/ds/a", headers=TEXT)).status_code in (404, 405)
