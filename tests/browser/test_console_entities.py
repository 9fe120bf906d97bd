"""The console shows an application's entities and programs: states, histories, causes, jobs."""

import asyncio
import json
import queue
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import WebSocketRoute

from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.transport.client.client import Client
from huahuo.webhooks import delivery_books
from huahuo.webhooks.delivery_books import DeadLetter, Delivery
from huahuo.webhooks.hooks import Filter, HookBook
from tests.support.drivers.browser import ROOT, Chromium, profile
from tests.support.drivers.console import (
    USER_ID,
    Console,
    built_console,
    console,
    mail,
    press_button,
    resize,
    until_text,
    violations,
)
from tests.support.patience import WITHIN_S
from tests.support.servers.receiver import receiver
from tests.support.servers.serving import MASTER_KEY, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROW = ".audit-rows li"


@pytest.fixture
async def shop(chromium: Chromium, tmp_path: Path) -> AsyncIterator[Console]:
    """The console of the shop, and ann, who may do all."""
    built_console()
    with serving(tmp_path / "data", app="shop:app", folder=ROOT / "examples" / "shop") as server:
        token = server.token(42, "ann", admin=True)
        async with (
            profile(chromium) as browser,
            Client(server.url, token=token, client="ann") as ann,
        ):
            yield Console(server, None, browser, ann)


async def test_an_administrator_sees_the_state_history_and_causes_of_an_entity(shop: Console) -> None:
    placed = await shop.client.send("place_order", item="green tea")
    tab = await shop.sign_in(shop.token(1, admin=True), page="#/audit")
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


async def test_the_card_of_one_s_own_stream_leaves_its_numbers_on_the_live_page(shop: Console) -> None:
    tab = await shop.sign_in(shop.token(1, admin=True), page="#/audit")
    await tab.fill("input[name=stream]", "user/1")
    await press_button(tab, "Search")
    await until_text(tab, ".entity-card h3", "user/1")
    await press_button(tab, "Reset")
    await tab.run("location.hash = '#/live'")
    await tab.until("document.querySelector('tr[data-stream=system]')")
    assert await tab.run("return document.querySelector(\"tr[data-stream='user/1']\") !== null")


async def test_the_answer_to_an_earlier_search_is_not_shown_over_that_to_a_later_one(shop: Console) -> None:
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

    for text in ("earlier", "later"):
        await shop.client.send("publish", stream="group/ops", type=f"{text}_one", fields={"text": text})
    await shop.browser.route_socket(hold_first)
    tab = await shop.sign_in(shop.token(1, admin=True), page="#/audit")
    await tab.fill("input[name=text]", "earlier")
    await press_button(tab, "Search")
    await tab.fill("input[name=text]", "later")
    await tab.press("Enter")
    await until_text(tab, f"{ROW} b", "later_one")
    shown = await tab.run("return document.querySelector('.audit-rows').textContent")
    held.set()
    await answered.wait()
    await shop.notify("a later answer")
    await until_text(tab, "body", "a later answer")
    assert await tab.run("return document.querySelector('.audit-rows').textContent") == shown


async def test_a_cause_that_is_not_in_the_log_any_more_is_not_replaced_by_a_later_event(
    shop: Console,
) -> None:

    def skip_one(socket: WebSocketRoute) -> None:
        service = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if isinstance(message, str) and (asked := json.loads(message)).get("limit") == 1:
                message = json.dumps({**asked, "after": asked["after"] + 1})  # as if it had been compacted
            service.send(message)

        socket.on_message(pass_on)

    await shop.client.send("place_order", item="green tea")
    await shop.browser.route_socket(skip_one)
    tab = await shop.sign_in(shop.token(1, admin=True), page="#/audit")
    await tab.fill("input[name=stream]", "order/1")
    await press_button(tab, "Search")
    await until_text(tab, ".entity-card td", "shipped")
    await press_button(tab, "Search")
    await until_text(tab, f"{ROW} b", "order_shipped")
    await tab.page.locator(ROW).last.locator("summary").click()
    await tab.page.locator(ROW).last.locator("dl button").last.click()
    await until_text(tab, "[role=status]", "0 ")
    assert await tab.run("return document.querySelectorAll('.audit-rows li').length") == 0


async def test_a_key_is_made_shown_once_used_and_revoked(on: Console, tmp_path: Path) -> None:
    tab = await on.sign_in(page="#/programs")
    await tab.fill("input[name=key_name]", "ci")
    await tab.page.locator("input[name=right][value=codes]").check()
    await press_button(tab, "Make a key", ".keys")
    key = await tab.page.locator(".told-once code").text_content()
    assert key is not None
    assert key.startswith("hhk_1_")
    await tab.page.screenshot(path=tmp_path / "key.png", full_page=True)
    async with httpx.AsyncClient(base_url=on.server.url, trust_env=False, timeout=WITHIN_S) as http:
        bearer = {"Authorization": f"Bearer {key}"}
        assert (await http.get(f"/streams/user/{USER_ID}", headers=bearer)).status_code == 200
        await press_button(tab, "Done", ".keys")
        await tab.page.reload()
        await until_text(tab, "[data-key='1']", "read · codes")
        assert key not in await tab.page.content()
        await press_button(tab, "Revoke", ".keys")
        await press_button(tab, "Revoke", "dialog[open]")
        await until_text(tab, ".keys", "No keys yet")
        assert (await http.get(f"/streams/user/{USER_ID}", headers=bearer)).status_code == 401
    assert await violations(tab) == []


async def test_a_webhook_that_is_refused_says_why(on: Console) -> None:
    tab = await on.sign_in(page="#/programs")
    await tab.fill("input[name=url]", "http://192.0.2.1/hook")
    await press_button(tab, "Make a webhook", ".hooks")
    await until_text(tab, ".toasts", "https:// is needed")


async def test_the_whole_name_of_a_key_is_readable_on_a_phone(on: Console) -> None:
    tab = await on.sign_in(page="#/programs")
    await resize(tab, 375, 720)
    await tab.fill("input[name=key_name]", "the script that copies invoices every night, then tells us")
    await press_button(tab, "Make a key", ".keys")
    await tab.until("document.querySelector('[data-key] b')")
    cut = await tab.run(
        """const name = document.querySelector("[data-key] b");
           const [inner, outer] = [name, name.closest(".card")].map((one) => one.getBoundingClientRect());
           return name.scrollWidth > name.clientWidth || inner.right > outer.right"""
    )
    assert not cut


async def test_dead_letters_are_seen_with_the_reason_and_sent_again(
    chromium: Chromium, tmp_path: Path
) -> None:
    with receiver() as came:
        url = f"http://127.0.0.1:{came.port}/hook"
        await failed_delivery(tmp_path / "data", url)
        async with console(chromium, tmp_path, HUAHUO_WEBHOOKS_ALLOW_PRIVATE="1") as on:
            tab = await on.sign_in(page="#/programs", language="zh")
            await press_button(tab, "1 条失败", ".hooks")
            await until_text(tab, ".hooks td", "HTTP 503")
            await tab.page.screenshot(path=tmp_path / "letters.png", full_page=True)
            await press_button(tab, "重新发送", ".hooks")
            _, body = await asyncio.to_thread(came.next)
            assert b'"order_id":7' in body
            await tab.until("!document.body.textContent.includes('条失败')")
            await press_button(tab, f"删除：{url}", ".hooks")
            await press_button(tab, "删除", "dialog[open]")
            await until_text(tab, ".hooks", "还没有 Webhook")
            assert await violations(tab) == []


async def test_dead_letters_are_counted_and_older_ones_are_shown_on_request(
    chromium: Chromium, tmp_path: Path
) -> None:
    await failed_delivery(tmp_path / "data", "https://example.org/hook", letters_count=130)
    async with console(chromium, tmp_path) as on:
        tab = await on.sign_in(page="#/programs")
        await press_button(tab, "130 failed", ".hooks")
        await until_text(tab, ".hooks", "100 of 130, the newest first")
        await press_button(tab, "Show older", ".hooks")
        await until_text(tab, ".hooks", "130 of 130, the newest first")
        assert await tab.page.locator(".hooks tr").count() == 130
        assert await violations(tab) == []


async def test_a_webhook_for_mails_with_a_code_is_made_and_the_code_is_copied(
    chromium: Chromium, tmp_path: Path
) -> None:
    with receiver() as came:
        async with console(chromium, tmp_path, HUAHUO_WEBHOOKS_ALLOW_PRIVATE="1") as on:
            tab = await on.sign_in(page="#/programs")
            await tab.fill("input[name=url]", f"http://127.0.0.1:{came.port}/hook")
            await tab.page.locator("select[name=what]").select_option("code")
            await press_button(tab, "Make a webhook", ".hooks")
            secret = await tab.page.locator(".told-once code").text_content()
            assert secret is not None
            assert secret.startswith("whsec_")
            subjects = ("Weekly news", "Your verification code is 482913")
            letters_there = [mail(number, subject=text) for number, text in enumerate(subjects, 1)]
            email_id = await on.add("a@example.org", letters_there)
            await on.client.send("check_emails", email_ids=[email_id])
            _, body = await asyncio.to_thread(came.next)
            assert b'"code":"482913"' in body
            with pytest.raises(queue.Empty):
                came.came.get_nowait()
            await tab.run(f"location.hash = '#/mailboxes/{email_id}'")
            await press_button(tab, "Copy code 482913")
            await until_text(tab, ".toasts", "Code 482913 copied")


async def failed_delivery(data: Path, url: str, letters_count: int = 1) -> None:
    """A data directory with a webhook of the user and events that were tried for a day."""
    data.mkdir()
    log = await SqliteLog.open(
        data, ambient=SystemAmbient(), master_key=bytes.fromhex(MASTER_KEY), build="test"
    )
    async with asyncio.timeout(WITHIN_S):
        book = HookBook(log, SystemAmbient())
        made = await book.add(
            Principal(USER_ID, "user42"),
            url,
            Filter(types=("parcel_seen",), streams=(f"user/{USER_ID}",)),
            account=False,
        )
        assert isinstance(made, tuple)
        stream = f"user/{USER_ID}"
        event = NewEvent(stream, "parcel_seen", b'{"type":"parcel_seen","timestamp":"now","order_id":7}')
        for seq in range(1, letters_count + 1):
            await log.append(Append(ts_ms=1, events=(event,)))
            letter = DeadLetter(stream, seq, "parcel_seen", 34, "HTTP 503", 1_790_000_000_000)
            row = delivery_books.put_dead(Delivery(made[0].webhook_id, log.position), letter)
            await log.append(Append(ts_ms=1, rows=(row,)))
        await log.close()
