"""The console shows an application's entities: their state, their history and what caused each event."""

import asyncio
from pathlib import Path

import pytest

from huahuo.transport.client.client import Client
from tests.support.drivers.browser import ROOT, Chromium, profile
from tests.support.drivers.console import (
    TIMEOUT_S,
    Console,
    built_console,
    press_button,
    until_text,
    violations,
)
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROW = ".audit-rows li"


async def test_an_administrator_sees_the_state_history_and_causes_of_an_entity(
    chromium: Chromium, tmp_path: Path
) -> None:
    built_console()
    with serving(tmp_path / "data", app="shop:app", folder=ROOT / "examples" / "shop") as server:
        async with (
            asyncio.timeout(TIMEOUT_S),
            profile(chromium) as browser,
            Client(server.url, token=server.token(42, "ann"), client="ann") as ann,
        ):
            on = Console(server, None, browser, ann)
            placed = await ann.send("place_order", item="green tea")
            tab = await on.sign_in(on.token(1, admin=True), page="#/audit")
            await tab.fill("input[name=stream]", "order/1")
            await press_button(tab, "Search")
            await until_text(tab, ".entity-card h3", "order/1")
            await until_text(tab, ".entity-card td", "green tea")
            await until_text(tab, ".entity-card td", "shipped")  # it follows, without a further search
            await tab.until("document.querySelector('.entity-card progress')?.value === 100")
            await press_button(tab, "Search")
            await until_text(tab, f"{ROW} b", "order_shipped")
            assert await tab.run("return document.querySelectorAll('.audit-rows progress').length") > 1
            await tab.page.locator(ROW).last.locator("summary").click()
            cause = tab.page.locator(ROW).last.locator("dl button").last
            await cause.click()
            await until_text(tab, f"{ROW} b", "effect_requested")
            await tab.page.locator(ROW).locator("summary").click()
            await press_button(tab, placed["id"], ROW)
            await until_text(tab, f"{ROW} b", "order_placed")
            assert await violations(tab) == []
