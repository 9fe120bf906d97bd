"""A service that was stopped and continued reads what came meanwhile before it judges anybody."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.drivers.rawclient import raw
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

V1 = "huahuo.v1"
SLEEP_S = 4.5
"""Longer than each of the limits below."""
JUDGED_S = 4.0
"""Longer than what is left of any limit after the sleep."""


async def test_a_stopped_and_continued_service_closes_nobody_and_handles_what_was_sent_meanwhile(
    tmp_path: Path,
) -> None:
    with serving(
        tmp_path / "data",
        HUAHUO_HEARTBEAT_S="2",  # a client may be silent for two; the wheel looks once a second
        HUAHUO_AUTH_TIMEOUT_S="3",
        HUAHUO_ACK_TIMEOUT_S="3",
    ) as server:
        url, token = f"ws://127.0.0.1:{server.port}/ws", server.token(1, "root", admin=True)

        async def main() -> None:
            async with AsyncExitStack() as stack:
                idle, behind = [await stack.enter_async_context(raw(url, V1)) for _ in range(2)]
                await idle.authenticate(token)
                await behind.authenticate(token)
                await behind.say(action="subscribe", id="s", stream="group/ops")
                await behind.until("subscribed")
                await idle.say(action="publish", id="p", stream="group/ops", type="noted")
                seq = (await behind.until("events"))["seq"]
                stranger = await stack.enter_async_context(raw(url, V1))
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    await idle.say(action="heartbeat", id="meanwhile")
                    await behind.say(action="ack", cursors={"group/ops": seq})
                    await stranger.say(action="authenticate", token=token)
                    await asyncio.sleep(SLEEP_S)  # the process's own clock must go on
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                await idle.until("heartbeat_response", id="meanwhile")
                assert (await stranger.until("authentication_result"))["success"]
                await asyncio.sleep(JUDGED_S)
                for client in (idle, behind, stranger):
                    await client.quiet()

        await main()
        assert "process_slept" in server.log()
