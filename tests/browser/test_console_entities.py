"""The console shows an application's entities: their state, their history and what caused each event."""

import asyncio
import json
from pathlib import Path

import pytest
from playwright.async_api import WebSocketRoute

from huahuo.transport.client.client import Client
from tests.support.drivers.browser import ROOT, Chromium, profile
from tests.support.drivers.console import (
    Console,
    built_console,
    press_button,
    until_text,
    violations,
)
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROW = ".audit-rows li"


async def test_an_administrator_sees_the_state_history_and_causes_of_an_entity(
    chromium: Chromium, tmp_path: Path
) -> None:
    built_console()
    with serving(tmp_path / "data", app="shop:app", folder=ROOT / "examples" / "shop") as server:
        async with (
            asyncio.timeout(ALL_WITHIN_S),
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


async def test_the_card_of_one_s_own_stream_leaves_its_numbers_on_the_live_page(
    chromium: Chromium, tmp_path: Path
) -> None:
    built_console()
    with serving(tmp_path / "data", app="shop:app", folder=ROOT / "examples" / "shop") as server:
        async with (
            asyncio.timeout(ALL_WITHIN_S),
            profile(chromium) as browser,
            Client(server.url, token=server.token(1, "ann", admin=True), client="ann") as ann,
        ):
            on = Console(server, None, browser, ann)
            tab = await on.sign_in(on.token(1, admin=True), page="#/audit")
            await tab.fill("input[name=stream]", "user/1")
            await press_button(tab, "Search")
            await until_text(tab, ".entity-card h3", "user/1")
            await press_button(tab, "Reset")
            await tab.run("location.hash = '#/live'")
            await tab.until("document.querySelector('tr[data-stream=system]')")
            assert await tab.run("return document.querySelector(\"tr[data-stream='user/1']\") !== null")


async def test_the_answer_to_an_earlier_search_is_not_shown_over_that_to_a_later_one(
    chromium: Chromium, tmp_path: Path
) -> None:
    built_console()
    held, answered = asyncio.Event(), asyncio.Event()

    def hold_first(socket: WebSocketRoute) -> None:
        service = socket.connect_to_server()
        waiting: set[asyncio.Task[None]] = set()

        async def late(message: str | bytes) -> None:
            await held.wait()
            service.send(message)

        def pass_on(message: str | bytes) -> None:
            if isinstance(message, str) and json.loads(message).get("where") == {"text": "earlier"}:
                waiting.add(asyncio.ensure_future(late(message)))
            else:
                service.send(message)

        def pass_back(message: str | bytes) -> None:
            socket.send(message)
            if held.is_set():
                answered.set()

        socket.on_message(pass_on)
        service.on_message(pass_back)

    with serving(tmp_path / "data", app="shop:app", folder=ROOT / "examples" / "shop") as server:
        async with (
            asyncio.timeout(ALL_WITHIN_S),
            profile(chromium) as browser,
            Client(server.url, token=server.token(1, "ann", admin=True), client="ann") as ann,
        ):
            for text in ("earlier", "later"):
                await ann.send("publish", stream="group/ops", type=f"{text}_one", fields={"text": text})
            on = Console(server, None, browser, ann)
            await browser.route_socket(hold_first)
            tab = await on.sign_in(on.token(1, admin=True), page="#/audit")
            await tab.fill("input[name=text]", "earlier")
            await press_button(tab, "Search")
            await tab.fill("input[name=text]", "later")
            await tab.press("Enter")
            await until_text(tab, f"{ROW} b", "later_one")
            shown = await tab.run("return document.querySelector('.audit-rows').textContent")
            held.set()
            await answered.wait()
            await on.notify("a later answer")
            await until_text(tab, "body", "a later answer")
            assert await tab.run("return document.querySelector('.audit-rows').textContent") == shown


async def test_a_cause_that_is_not_in_the_log_any_more_is_not_replaced_by_a_later_event(
    chromium: Chromium, tmp_path: Path
) -> None:
    built_console()

    def skip_one(socket: WebSocketRoute) -> None:
        service = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if isinstance(message, str) and (asked := json.loads(message)).get("limit") == 1:
                message = json.dumps({**asked, "after": asked["after"] + 1})  # as if it had been compacted
            service.send(message)

        socket.on_message(pass_on)

    with serving(tmp_path / "data", app="shop:app", folder=ROOT / "examples" / "shop") as server:
        async with (
            asyncio.timeout(ALL_WITHIN_S),
            profile(chromium) as browser,
            Client(server.url, token=server.token(42, "ann"), client="ann") as ann,
        ):
            on = Console(server, None, browser, ann)
            await ann.send("place_order", item="green tea")
            await browser.route_socket(skip_one)
            tab = await on.sign_in(on.token(1, admin=True), page="#/audit")
            await tab.fill("input[name=stream]", "order/1")
            await press_button(tab, "Search")
            await until_text(tab, ".entity-card td", "shipped")
            await press_button(tab, "Search")
            await until_text(tab, f"{ROW} b", "order_shipped")
            await tab.page.locator(ROW).last.locator("summary").click()
            await tab.page.locator(ROW).last.locator("dl button").last.click()
            await until_text(tab, "[role=status]", "0 ")
            assert await tab.run("return document.querySelectorAll('.audit-rows li').length") == 0
