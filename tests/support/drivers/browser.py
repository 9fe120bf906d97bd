"""A real Chromium for tests, driven by Playwright.

    async with profile(chromium) as browser, pages(PAGES) as site:     # `chromium`: a pytest fixture
        tab = await browser.open(f"{site}/a.html")
        await tab.run("return document.title")                  # the body of an async function
        await tab.until("document.querySelector('#state').value === 'online'")
        await tab.reload(); await tab.close()

Tabs of one `profile()` share storage, as a user's do; profiles share nothing. `tab.page` is Playwright's
own page. What a page logs or throws is in `tab.said`.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser as PlaywrightBrowser
from playwright.async_api import BrowserContext, CDPSession, Page, WebSocketRoute, async_playwright
from playwright.async_api import Error as PlaywrightError
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tests.support.patience import WITHIN_S

ROOT = Path(__file__).resolve().parents[3]
BUILT_CLIENT = ROOT / "huahuo" / "pages" / "static" / "client" / "huahuo-client.js"

CLOSE_S = 30.0
"""How long a Chromium or a profile may take to close. After that it is ended from outside."""

type Chromium = PlaywrightBrowser
"""The running process, of which a test gets a `profile`."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


def find_chromium() -> str:
    """Its path. Where there is none the test is skipped, but fails in CI, which must install it."""
    named = os.environ.get("HUAHUO_CHROMIUM")
    found = named or next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        missing("no Chromium: apt-get install chromium, or name one in HUAHUO_CHROMIUM")
    assert found is not None
    return found


def built_client() -> Path:
    """The client as `scripts/web.sh` built it; skips (fails in CI) where it did not."""
    if not BUILT_CLIENT.exists():
        missing("the browser client is not built: make web")
    return BUILT_CLIENT


def missing(what: str) -> None:
    """Skip the test, or fail it in CI, where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


class PageError(AssertionError):
    """A script in a page threw, or did not end in time."""


class Tab:
    """One page. Made by `Browser.open`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self._devtools: CDPSession | None = None
        page.set_default_timeout(WITHIN_S * 1000)
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"thrown: {error.stack or error.message}"))

    async def goto(self, url: str) -> None:
        """Go there and wait for its `load` event."""
        await self.page.goto(url)

    async def reload(self) -> None:
        """As the user's reload button."""
        await self.page.reload()

    async def run(self, script: str, timeout_s: float = WITHIN_S) -> Any:
        """The result of an async function with this body.

        Raises:
            PageError: it threw, or took too long.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self.page.evaluate(f"(async () => {{ {script} }})()")
        except TimeoutError:
            raise PageError(f"not in {timeout_s} s: {script}\npage said: {self.said[-20:]}") from None
        except PlaywrightError as error:
            raise PageError(f"{script}: {error.message}\npage said: {self.said[-20:]}") from error

    async def until(self, condition: str, timeout_s: float = WITHIN_S) -> Any:
        """Wait until the expression is true in the page; its value."""
        return await self.run(
            f"""for (;;) {{
                  const value = await ({condition});
                  if (value) return value;
                  await new Promise((resolve) => setTimeout(resolve, 10));
                }}""",
            timeout_s,
        )

    async def click(self, selector: str) -> None:
        """Click the first such element once it is there, in sight and enabled."""
        await self.page.locator(selector).first.click()

    async def fill(self, selector: str, text: str) -> None:
        """Replace what the field holds by `text`."""
        await self.page.locator(selector).first.fill(text)

    async def press(self, key: str) -> None:
        """A key by its DOM name (`Enter`, `Escape`, `ArrowDown`)."""
        await self.page.keyboard.press(key)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, for what Playwright has no word for."""
        if self._devtools is None:
            self._devtools = await self.page.context.new_cdp_session(self.page)
        answer: dict[str, Any] = await self._devtools.send(method, params)
        return answer

    async def crash(self) -> None:
        """The renderer process dies: no handler of the page runs."""
        async with self.page.expect_event("crash"):
            with contextlib.suppress(PlaywrightError):
                await self.page.goto("chrome://crash")

    async def close(self) -> None:
        """As the user's cross: `pagehide` handlers run, then the page is gone."""
        await self.page.close()


class Browser:
    """One profile of a running Chromium: what its tabs share. Made by `profile`."""

    def __init__(self, context: BrowserContext) -> None:
        self._context = context

    async def open(self, url: str = "about:blank") -> Tab:
        """A new tab."""
        tab = Tab(await self._context.new_page())
        if url != "about:blank":
            await tab.goto(url)
        return tab

    async def route_socket(self, handler: Callable[[WebSocketRoute], object]) -> None:
        """WebSockets of all tabs from now on go through `handler`."""
        await self._context.route_web_socket("**/*", handler)


@asynccontextmanager
async def running_chromium() -> AsyncIterator[Chromium]:
    """A Chromium for the tests of one file: its start takes longer than many a test."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=find_chromium(), args=_FLAGS)
        pid = await _pid_of(started)
        try:
            yield started
        finally:
            closing = asyncio.ensure_future(started.close())
            if not await in_time(closing):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(os.getpgid(pid), signal.SIGKILL)
            await closing


async def _pid_of(chromium: Chromium) -> int:
    """That of its main process, which leads a group of its own: Playwright starts it so."""
    session = await chromium.new_browser_cdp_session()
    told = await session.send("SystemInfo.getProcessInfo")
    await session.detach()
    [pid] = (int(one["id"]) for one in told["processInfo"] if one["type"] == "browser")
    return pid


async def in_time(closing: asyncio.Future[None]) -> bool:
    """Whether it ended within `CLOSE_S`. Raises what it raised."""
    if (await asyncio.wait({closing}, timeout=CLOSE_S))[0]:
        closing.result()
    return closing.done()


@asynccontextmanager
async def profile(chromium: Chromium, *, any_certificate: bool = False) -> AsyncIterator[Browser]:
    """A fresh profile, gone at the end with all its tabs. `any_certificate`: it trusts every server.

    A deadline of the test belongs inside, so that it bounds what the test does and not the closing: a profile
    that does not close in time is left to the end of its Chromium.
    """
    context = await chromium.new_context(ignore_https_errors=any_certificate)
    try:
        yield Browser(context)
    finally:
        await in_time(asyncio.ensure_future(context.close()))


@asynccontextmanager
async def pages(folder: Path, more: Mapping[str, Path] | None = None) -> AsyncIterator[str]:
    """Serve the files of `folder` on 127.0.0.1 (and `more`, by path); the address.

    Pages that talk to the service from here have an origin with its host name, as it requires, and can
    be loaded while it is down.
    """
    found = await asyncio.to_thread(lambda: list(folder.iterdir()))
    files = {f"/{path.name}": path for path in found} | dict(more or {})

    async def answer(connection: ServerConnection, request: Request) -> Response:
        path = files.get(request.path.partition("?")[0])
        status = HTTPStatus.OK if path else HTTPStatus.NOT_FOUND
        body = path.read_bytes() if path else b""
        kind = _TYPES.get(path.suffix if path else "", "text/plain")
        headers = Headers(
            {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Connection": "close",
                "Cache-Control": "no-store",
            }
        )
        return Response(status.value, status.phrase, headers, body)

    async def never(socket: ServerConnection) -> None:
        raise AssertionError("every request is answered by `answer`")

    async with serve(never, "127.0.0.1", 0, process_request=answer) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}"
