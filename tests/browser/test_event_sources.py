"""The pages with a plain EventSource go on after a `kill -9`, however long the service is away."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium, Tab, profile
from tests.support.drivers.snippets import block
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.inside import Inside, inside
from tests.support.servers.reverse_proxies import NAMES, reverse_proxy
from tests.support.servers.tls import Authority

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

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
