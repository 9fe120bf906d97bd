"""What an idle service frees: frames and pages that it can make or read again."""

import asyncio
from pathlib import Path

from huahuo.app.caches import letting_go
from tests.support.worlds.storing import stored


async def test_an_idle_service_lets_frames_and_pages_go_and_goes_on(tmp_path: Path) -> None:
    async with stored(tmp_path / "data") as s, s.client(1, admin=True) as one, s.client(2, admin=True) as two:
        for client in (one, two):
            await client.events("group/ops").ready()
        await one.send("publish", stream="group/ops", type="said", text="a" * 1000)
        async for event in two.events("group/ops", after=0):
            assert event.data["text"] == "a" * 1000
            break
        assert s.app.server.frames.bytes > 0
        letting_go(s.app)()
        assert s.app.server.frames.bytes == 0
        await asyncio.gather(*(one.send("publish", stream="group/ops", type="said", n=n) for n in range(20)))
        assert s.app.log.head("group/ops").seq == 21
