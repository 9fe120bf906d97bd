"""A real Chromium for tests, driven over its DevTools protocol: no driver, nothing to download.

    async with profile(devtools) as browser, pages(PAGES) as site:     # `devtools`: a pytest fixture
        tab = await browser.open(f"{site}/a.html")
        await tab.run("return document.title")                  # the body of an async function
        await tab.until("document.querySelector('#state').value === 'online'")
        await tab.reload(); await tab.close()

Tabs of one `profile()` share storage, as a user's do; profiles share nothing. One Chromium serves all
tests of a run. What a page logs or throws is in `tab.said`.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
ROOT = Path(__file__).resolve().parents[3]
BUILT_CLIENT = ROOT / "huahuo" / "pages" / "static" / "client" / "huahuo-client.js"

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--remote-debugging-port=0",
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

    def __init__(self, browser: "Browser", target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        self._loaded = asyncio.Event()
        self.said: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol for this page."""
        return await self._browser.call(method, self._session, **params)

    async def goto(self, url: str) -> None:
        """Go there and wait for its `load` event."""
        self._loaded.clear()
        answer = await self.call("Page.navigate", url=url)
        if "errorText" in answer:
            raise PageError(f"{url}: {answer['errorText']}")
        await self._wait_loaded()

    async def reload(self, *, wait: bool = True) -> None:
        """As the user's reload button."""
        self._loaded.clear()
        await self.call("Page.reload")
        if wait:
            await self._wait_loaded()

    async def run(self, script: str, timeout_s: float = TIMEOUT_S) -> Any:
        """The result of an async function with this body.

        Raises:
            PageError: it threw, or took too long.
        """
        expression = f"(async () => {{ {script} }})()"
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self.call(
                    "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
                )
        except TimeoutError:
            raise PageError(f"not in {timeout_s} s: {script}\npage said: {self.said[-20:]}") from None
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"].get("exception", {})
            text = thrown.get("description") or thrown.get("value")
            raise PageError(f"{script}: {text}\npage said: {self.said[-20:]}")
        return answer["result"].get("value")

    async def until(self, condition: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Wait until the expression is true in the page (looked at once a frame); its value."""
        return await self.run(
            f"""for (;;) {{
                  const value = await ({condition});
                  if (value) return value;
                  await new Promise((resolve) => setTimeout(resolve, 10));
                }}""",
            timeout_s,
        )

    async def click(self, selector: str) -> None:
        """Click the element once it is there and enabled, with the mouse."""
        place = await self.until(
            f"""(() => {{
                  const found = document.querySelector({json.dumps(selector)});
                  if (!found || found.disabled) return null;
                  found.scrollIntoView({{ block: "center", inline: "center" }});
                  const box = found.getBoundingClientRect();
                  return box.width && {{ x: box.x + box.width / 2, y: box.y + box.height / 2 }};
                }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    async def type(self, selector: str, text: str) -> None:
        """Click into the field, replace what it holds by `text`."""
        await self.click(selector)
        await self.run("document.activeElement.select?.()")
        await self.call("Input.insertText", text=text)

    async def press(self, key: str) -> None:
        """A key by its DOM name (`Enter`, `Escape`, `ArrowDown`)."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowUp": 38, "ArrowDown": 40}
        more = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes.get(key, 0),
                **more,
            )

    async def offline(self, off: bool = True) -> None:
        """Take the network away from this page, or give it back. Does not cut open WebSockets."""
        await self.call(
            "Network.emulateNetworkConditions",
            offline=off,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )

    async def screenshot(self, path: Path) -> None:
        """A PNG of what is seen."""
        answer = await self.call("Page.captureScreenshot")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))

    async def crash(self) -> None:
        """The renderer process dies: no handler of the page runs."""
        with contextlib.suppress(TimeoutError, PageError):
            async with asyncio.timeout(1):
                await self.call("Page.crash")

    async def close(self) -> None:
        """As the user's cross: `pagehide` handlers run, then the page is gone."""
        gone = self._browser.gone[self._target] = asyncio.Event()
        await self._browser.call("Target.closeTarget", targetId=self._target)
        async with asyncio.timeout(TIMEOUT_S):
            await gone.wait()

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """An event of the DevTools protocol for this page."""
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.consoleAPICalled":
            words = [str(arg.get("value", arg.get("description", ""))) for arg in params["args"]]
            self.said.append(f"{params['type']}: {' '.join(words)}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.said.append(f"thrown: {details.get('exception', {}).get('description', details['text'])}")

    async def _wait_loaded(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await self._loaded.wait()


class Browser:
    """One profile of a running Chromium. Made by `profile`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.context = ""
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}
        self.gone: dict[str, asyncio.Event] = {}

    async def open(self, url: str = "about:blank") -> Tab:
        """A new tab."""
        made = await self.call("Target.createTarget", url="about:blank", browserContextId=self.context)
        target = made["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = self._tabs[session] = Tab(self, target, session)
        for domain in ("Page", "Runtime", "Network"):
            await tab.call(f"{domain}.enable")
        if url != "about:blank":
            await tab.goto(url)
        return tab

    async def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol.

        Raises:
            PageError: it was refused.
        """
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        message = {"id": number, "method": method, "params": params}
        await self._socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        answer = await future
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def read(self) -> None:
        """Read what the browser says, to its end."""
        with contextlib.suppress(ConnectionClosed):
            async for raw in self._socket:
                message = json.loads(raw)
                if "id" in message:
                    future = self._answers.pop(message["id"], None)
                    if future is not None and not future.done():
                        future.set_result(message)
                elif message["method"] == "Target.targetDestroyed":
                    if gone := self.gone.get(message["params"]["targetId"]):
                        gone.set()
                elif tab := self._tabs.get(message.get("sessionId", "")):
                    tab.heard(message["method"], message["params"])


@contextmanager
def chromium() -> Iterator[str]:
    """A running Chromium; the address of its DevTools."""
    path = find_chromium()
    with tempfile.TemporaryDirectory(prefix="huahuo-chromium-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [path, *_FLAGS, f"--user-data-dir={folder}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(rb"DevTools listening on (ws://\S+)", line):
                    break
            else:
                raise AssertionError("Chromium ended before it listened")
            # a full pipe would hold the browser
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield found[1].decode()
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # it has nothing worth saving
            process.wait(STOP_TIMEOUT_S)
            process.stderr.close()


@asynccontextmanager
async def profile(devtools: str) -> AsyncIterator[Browser]:
    """A fresh profile in the Chromium at that address, with its tabs closed at the end."""
    async with connect(devtools, max_size=None, ping_interval=None, proxy=None) as socket:
        browser = Browser(socket)
        reader = asyncio.create_task(browser.read())
        await browser.call("Target.setDiscoverTargets", discover=True)
        made = await browser.call("Target.createBrowserContext", disposeOnDetach=True)
        browser.context = made["browserContextId"]
        try:
            yield browser
        finally:
            with contextlib.suppress(PageError, ConnectionClosed, TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await browser.call("Target.disposeBrowserContext", browserContextId=browser.context)
            reader.cancel()


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
