"""The pages that the READMEs show, opened in Chromium as they stand there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.drivers.browser import Browser, Chromium, Tab, pages, profile
from tests.support.drivers.snippets import block, run, snippet
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.serving import Serving, serving

CLIENT = "web/client/README.md"
LINES = "[...document.querySelectorAll('#list li')].map((line) => line.textContent)"
ORDERS = """
const open = indexedDB.open("app", 1);
const database = await new Promise((done) => (open.onsuccess = () => done(open.result)));
const all = database.transaction("orders").objectStore("orders").getAll();
const found = await new Promise((done) => (all.onsuccess = () => done(all.result)));
database.close();
return found.map(({ seq }) => seq);
"""
STORED = """
const open = indexedDB.open(%s, 1);
const database = await new Promise((done) => (open.onsuccess = () => done(open.result)));
const all = database.transaction("huahuo").objectStore("huahuo").getAll();
const found = await new Promise((done) => (all.onsuccess = () => done(all.result)));
database.close();
return found.map(({ seq }) => seq).filter((seq) => seq !== undefined);
"""
ONLINE = "document.querySelector('#state').value === 'online'"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@asynccontextmanager
async def shown(
    chromium: Chromium, folder: Path, document: str, name: str
) -> AsyncIterator[tuple[Serving, Browser, str]]:
    """The service, a browser, and the address of the page with a token, as a reader would open it."""
    (folder / "pages").mkdir()
    async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
        with serving(folder / "data") as server:
            text = block(document, name, url=server.url)
            (folder / "pages" / "page.html").write_text(text, encoding="utf-8")
            async with pages(folder / "pages") as site:
                token = server.token(42, "alice", groups=("ops",))
                yield server, browser, f"{site}/page.html#{token}"


async def publish(server: Serving) -> None:
    """What the page says about publishing."""
    names = {"url": server.url, "admin_token": server.token(1, "root", admin=True)}
    await run(snippet(CLIENT, "publish"), names)


async def stored(tab: Tab, seq: int, database: str = "huahuo") -> None:
    """Wait until the client has stored this place: 0 once it has one, later that of the last handled event.

    A page that has no place yet passes over what is published, and one that is reloaded before it stored its
    place shows the event again; both are what the README promises.
    """
    await tab.until(ONLINE)  # by then the database is made
    places = STORED % repr(database)
    await tab.until(f"(async () => {{ {places} }})().then((found) => found.join() === '{seq}')")


async def test_the_page_of_five_minutes_shows_each_event_once_over_a_reload_and_in_every_tab(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with shown(chromium, tmp_path, CLIENT, "page") as (server, browser, address):
        first = await browser.open(address)
        await stored(first, 0)
        await publish(server)
        await first.until(f"{LINES}.join() === '1 deploy_started'")
        await stored(first, 1)
        await first.reload()
        await first.until(ONLINE)
        second = await browser.open(address)
        count = 1
        while not await second.run(f"return {LINES}.length"):  # "online" is before it has its place
            await publish(server)
            count += 1
            await first.until(f"{LINES}.at(-1) === '{count} deploy_started'")
        await publish(server)
        for tab in (first, second):
            await tab.until(f"{LINES}.at(-1) === '{count + 1} deploy_started'")
        shown_in_first = await first.run(f"return {LINES}")
        shown_in_second = await second.run(f"return {LINES}")
        assert shown_in_first == [f"{seq} deploy_started" for seq in range(2, count + 2)]
        assert shown_in_second == shown_in_first[-len(shown_in_second) :]
        await first.close()
        await publish(server)
        await second.until(f"{LINES}.at(-1) === '{count + 2} deploy_started'")
        assert await second.run(f"return {LINES}") == [*shown_in_second, f"{count + 2} deploy_started"]


async def test_the_page_with_a_transaction_stores_each_event_once(chromium: Chromium, tmp_path: Path) -> None:
    async with shown(chromium, tmp_path, CLIENT, "transaction") as (server, browser, address):
        tab = await browser.open(address)
        await stored(tab, 0, "app")
        for count in (1, 2, 3):
            await publish(server)
            if count > 1:  # a page without a cursor begins with what comes next
                await tab.reload()
                await tab.until(ONLINE)
            await tab.until(f"(async () => {{ {ORDERS} }})().then((found) => found.length === {count})")
        assert await tab.run(ORDERS) == [1, 2, 3]
        assert not [line for line in tab.said if line.startswith("thrown")]


async def test_the_page_of_the_first_readme_lists_events(chromium: Chromium, tmp_path: Path) -> None:
    async with shown(chromium, tmp_path, "README.md", "page") as (server, browser, address):
        tab = await browser.open(address)
        await tab.until("typeof list === 'object'")
        while not await tab.run(f"return {LINES}.length"):  # it does not show when it is online
            await publish(server)
        shown_before = await tab.run(f"return {LINES}")
        assert "deploy_started" in shown_before[0]
        await tab.reload()
        await tab.until(f"{LINES}.length >= {len(shown_before)}")
        assert (await tab.run(f"return {LINES}"))[: len(shown_before)] == shown_before
