"""Pages of the documents in Chromium, as they stand there."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.drivers.browser import Browser, Chromium, Tab, pages, profile
from tests.support.drivers.snippets import ROOT, block, run, snippet
from tests.support.patience import ALL_WITHIN_S, WITHIN_S
from tests.support.servers.inside import Inside, inside
from tests.support.servers.reverse_proxies import NAMES, reverse_proxy
from tests.support.servers.serving import Serving, serving
from tests.support.servers.tls import Authority

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


TUTORIAL = "docs/tutorial.md"
WRITTEN_LINES = "[...document.querySelectorAll('#list li')].map((line) => line.textContent).join('|')"


async def shows(tab: Tab, text: str) -> None:
    await tab.until(f"{WRITTEN_LINES} === '{text}'")


async def pack(server: Serving, percent: int) -> None:
    """The warehouse's program, as its line in the page runs it."""
    program = server.data.parent / "pack.py"
    program.write_text(block(TUTORIAL, "pack", url=server.url), encoding="utf-8")
    running = await asyncio.create_subprocess_exec(
        sys.executable, str(program), token(server, "admin"), str(percent), env=server.environ
    )
    assert await running.wait() == 0


def token(server: Serving, word: str) -> str:
    """What the page's `huahuo token …` with this word prints."""
    [command] = [line for line in commands("token") if word in line]
    return huahuo(server, command).strip()


def commands(name: str) -> list[str]:
    """The page's commands `huahuo NAME …`, without `huahuo` and without comments."""
    page = (ROOT / TUTORIAL).read_text(encoding="utf-8")
    return re.findall(rf"^huahuo ({name} [^#\n]+)", page, re.MULTILINE)


def huahuo(server: Serving, words: str) -> str:
    """Run a command of the page in the shop's folder; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "huahuo", *words.split()],
        cwd=server.data.parent, env=server.environ, capture_output=True, text=True,
        timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


async def test_the_page_survives_a_reload_and_the_orders_a_kill(chromium: Chromium, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block(TUTORIAL, "shop"), encoding="utf-8")
    folder = tmp_path / "pages"
    folder.mkdir()
    async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
        with serving(tmp_path / "shop-data", app="shop:app", folder=tmp_path) as server:
            page = block(TUTORIAL, "page", url=server.url)
            (folder / "page.html").write_text(page, encoding="utf-8")
            async with pages(folder) as site:
                tab = await browser.open(f"{site}/page.html#{token(server, 'alice')}")
                await tab.until(ONLINE)
                await tab.fill("#item", "tea")
                await tab.press("Enter")
                await shows(tab, "1 tea: placed, 0 %")
                await pack(server, 40)
                await shows(tab, "1 tea: placed, 40 %")
                await tab.reload()
                await shows(tab, "1 tea: placed, 40 %")
                server.kill()
                server.start()
                await pack(server, 100)
                await shows(tab, "1 tea: packed, 100 %")
                assert not [line for line in tab.said if line.startswith("thrown")]
            for words in commands("replay"):
                assert "order_progress" in huahuo(server, words)


def test_the_tests_of_the_page_pass_with_pytest(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block(TUTORIAL, "shop"), encoding="utf-8")
    page = (ROOT / TUTORIAL).read_text(encoding="utf-8")
    [line] = re.findall(r"`(from shop import [^`]+)`", page)
    (tmp_path / "test_shop.py").write_text(f"{line}\n{block(TUTORIAL, 'tests')}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


ANSWERS = """

from fastapi.responses import HTMLResponse  # noqa: E402


async def model(question):
    yield "Once "
    while not app_may_end.is_set():
        await asyncio.sleep(0.05)
    yield "upon"

app_may_end = asyncio.Event()

@api.get("/token")
def token() -> str:
    return app.token(USER)

@api.get("/", response_class=HTMLResponse)
def page() -> str:
    return PAGE
"""


async def killed_until_the_page_asked_in_vain(server: Inside, tab: Tab) -> None:
    """Kill the server, and start it when the page has asked for it and got no answer."""
    failed = asyncio.Event()
    tab.page.on("requestfailed", lambda request: failed.set() if request.url.endswith("/token") else None)
    server.kill()
    await failed.wait()
    await asyncio.to_thread(server.start)


async def test_the_bar_of_the_fastapi_example_goes_on(chromium: Chromium, tmp_path: Path) -> None:
    with inside("examples.fastapi_app:api", tmp_path) as server:
        async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
            tab = await browser.open(server.url)
            await tab.click("button")
            await tab.until("bar.value > 0")
            await killed_until_the_page_asked_in_vain(server, tab)
            await tab.click("button")
            await tab.until("bar.value === 100")


@pytest.mark.parametrize("proxy", NAMES)
async def test_the_bar_goes_on_behind_a_proxy_as_shipped(
    chromium: Chromium, tmp_path: Path, proxy: str
) -> None:
    with (
        inside("examples.fastapi_app:api", tmp_path) as server,
        reverse_proxy(proxy, server.port, tmp_path, Authority(), mount="/live") as url,
    ):
        async with profile(chromium, any_certificate=True) as browser, asyncio.timeout(ALL_WITHIN_S):
            tab = await browser.open(url)
            assert await tab.run("return (await fetch('/live/metrics')).status") == 404
            await tab.click("button")
            await tab.until("bar.value > 0")
            away = asyncio.Event()
            tab.page.on("response", lambda answer: away.set() if answer.status in (502, 503) else None)
            server.kill()
            await away.wait()
            await asyncio.to_thread(server.start)
            last = await tab.run("return last")
            await tab.until("fetch('/import', {method: 'POST'}).then((answer) => answer.ok)")
            await tab.until(f"last !== {last!r}")


async def test_the_page_of_an_answer_goes_on(chromium: Chromium, tmp_path: Path) -> None:
    written = (
        block("docs/ai.md", "server") + ANSWERS + f"\nPAGE = {json.dumps(block('docs/ai.md', 'page'))}\n"
    )
    (tmp_path / "answers_of_tests.py").write_text(written)
    with inside("answers_of_tests:api", tmp_path) as server:
        async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
            tab = await browser.open(server.url)
            await tab.run(
                "const asked = await fetch('/ask?question=why', {method: 'POST'});"
                "void read((await asked.json()).stream);"
            )
            await tab.until("document.querySelector('p').textContent === 'Once '")
            await killed_until_the_page_asked_in_vain(server, tab)
            await tab.run("document.querySelector('p').textContent = ''")
            await tab.until("document.querySelector('p').textContent === 'Once '")
