"""The browser client in a real browser: whatever is interrupted, every event is applied once."""

import asyncio
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium
from tests.support.drivers.stage import stage
from tests.support.servers.proxy import chaos_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_a_cut_connection_goes_on_where_it_stood(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on, chaos_proxy(on.server.port) as proxy:
        tab = await on.reader("memory", port=proxy.port)
        await tab.run("await subscription.ready")
        await on.publish(50)
        await tab.until("seen.length >= 20")
        proxy.cut()
        await on.publish(50)
        await tab.until("seen.length >= 100")
        assert await tab.run("return seen") == on.expected()
        assert "offline" in await tab.run("return states")


async def test_a_reload_in_the_middle_of_a_burst_applies_every_event_once(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
        tab = await on.reader("stored")
        await tab.run("await subscription.ready")
        for _ in range(4):
            burst = asyncio.create_task(on.publish(150))
            await asyncio.sleep(0)
            await tab.until("seen.length >= 20")
            await tab.reload()
            await tab.until("window.ready")
            await burst
        await tab.until(f"applied().then((all) => all.length >= {on.published})")
        assert await tab.run("return applied()") == on.expected()
        assert len(await tab.run("return seen")) < on.published, "the reloads came in the middle"


async def test_a_closed_tab_is_continued_by_a_new_one(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on:
        first = await on.reader("stored")
        await first.run("await subscription.ready")
        await on.publish(30)
        await first.until("applied().then((all) => all.length === 30)")
        await first.close()
        await on.publish(30)
        second = await on.reader("stored")
        await second.until("applied().then((all) => all.length >= 60)")
        assert await second.run("return applied()") == on.expected()


async def test_a_page_that_received_nothing_yet_misses_nothing_after_a_reload(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with stage(chromium, tmp_path) as on:
        await on.publish(5)
        tab = await on.reader("stored")
        assert await tab.run("return await subscription.ready") == "fresh"
        await tab.until("place().then((seq) => seq === 5)")  # a page that goes earlier comes back as new
        await tab.goto("about:blank")
        await on.publish(7)
        await tab.goto(on.address("stored"))
        await tab.until("seen.length === 7")
        assert await tab.run("return seen") == [6, 7, 8, 9, 10, 11, 12]


async def test_a_killed_server_is_awaited_without_a_reload(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on:
        tab = await on.reader("stored")
        await tab.run("await subscription.ready; window.mark = 'same page'")
        await on.publish(40)
        await tab.until("seen.length >= 10")
        await asyncio.to_thread(on.server.kill)
        await tab.until("states.includes('offline')")
        await asyncio.to_thread(on.server.start)
        await on.publish(40)
        await tab.until(f"applied().then((all) => all.length >= {on.published})")
        assert await tab.run("return applied()") == on.expected()
        assert await tab.run("return window.mark") == "same page"


async def test_a_page_put_away_and_brought_back_goes_on(chromium: Chromium, tmp_path: Path) -> None:
    async with stage(chromium, tmp_path) as on:
        tab = await on.reader("memory")
        await tab.run("await subscription.ready")
        await on.publish(10)
        await tab.until("seen.length === 10")
        await tab.call("Page.setWebLifecycleState", state="frozen")
        await on.publish(10)
        await tab.call("Page.setWebLifecycleState", state="active")
        await tab.until("seen.length === 20")
        assert await tab.run("return seen") == on.expected()


async def test_a_connection_that_went_silent_is_found_out_when_the_page_is_seen_again(
    chromium: Chromium, tmp_path: Path
) -> None:
    # The silence of heartbeats is noticed long after the deadline of `until`.
    async with (
        stage(chromium, tmp_path, HUAHUO_HEARTBEAT_S="600") as on,
        chaos_proxy(on.server.port) as proxy,
    ):
        tab = await on.reader("memory", port=proxy.port)
        await tab.run("await subscription.ready")
        proxy.blackhole()  # as a phone's network does: the socket stays open, nothing comes
        await on.publish(10)
        await tab.run("document.dispatchEvent(new Event('visibilitychange'))")
        await tab.until("states.includes('offline')")
        proxy.heal()
        await tab.until("seen.length === 10")
        assert await tab.run("return seen") == on.expected()
