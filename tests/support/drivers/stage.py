"""What the client's browser tests share: the real server, its pages, and somebody who publishes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from huahuo.transport.client.client import Client
from tests.support.drivers.browser import ROOT, Browser, Chromium, Tab, built_client, pages, profile
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.serving import Serving, serving

PAGES = ROOT / "tests" / "browser" / "pages"
STREAM = "group/ops"


class Stage:
    """A running service, a browser, and pages that read `group/ops`."""

    def __init__(self, server: Serving, browser: Browser, site: str, admin: Client) -> None:
        self.server = server
        self.browser = browser
        self.site = site
        self.published = 0
        self._admin = admin

    def token(self, ttl_s: float = 3600) -> str:
        return self.server.token(42, "alice", groups=("ops",), ttl_s=ttl_s)

    def address(self, kind: str, *tokens: str, port: int = 0, **query: str) -> str:
        fields = {"server": f"ws://127.0.0.1:{port or self.server.port}", "stream": STREAM, "kind": kind}
        return f"{self.site}/reader.html?{urlencode(fields | query)}#{','.join(tokens or (self.token(),))}"

    async def reader(self, kind: str, *tokens: str, port: int = 0, **query: str) -> Tab:
        """A page that reads the stream, online and placed."""
        tab = await self.browser.open(self.address(kind, *tokens, port=port, **query))
        await tab.until("window.ready && client.state.value.name === 'online'")
        return tab

    async def publish(self, count: int) -> None:
        """Append the next `count` numbered events."""
        numbers = range(self.published + 1, self.published + count + 1)
        self.published += count
        async with asyncio.TaskGroup() as group:
            for n in numbers:
                group.create_task(self._admin.send("publish", stream=STREAM, type="tick", n=n))

    async def revoke(self, user_id: int) -> None:
        """End every session of a user."""
        await self._admin.send("revoke", user_id=user_id)

    async def connection_lasts(self, user: str, seconds: float) -> None:
        """Wait until the token of the user's only connection holds for `seconds` more."""
        while True:
            (row,) = [one for one in (await self._admin.send("get_clients"))["data"] if one["user"] == user]
            ends, began = (datetime.fromisoformat(row[name]) for name in ("expires_at", "connected_at"))
            if (ends - began).total_seconds() > seconds:
                return

    async def notify(self, text: str) -> None:
        """A notification for everybody."""
        fields = {"stream": "system", "type": "system_notification", "message": text, "level": "info"}
        await self._admin.send("publish", **fields)

    def expected(self) -> list[int]:
        """Every number that was published, once."""
        return list(range(1, self.published + 1))


@asynccontextmanager
async def stage(
    chromium: Chromium, tmp_path: Path, within_s: float | None = ALL_WITHIN_S, **environ: str
) -> AsyncIterator[Stage]:
    """Everything running; the events of a stage are appended by an admin without a rate limit.

    `environ`: further `HUAHUO_*` settings.
    """
    more = {"/client/huahuo-client.js": built_client()}
    async with pages(PAGES, more) as site, profile(chromium) as browser, asyncio.timeout(within_s):
        given: dict[str, Any] = {"HUAHUO_MESSAGES_PER_S": "0"} | environ
        with serving(tmp_path / "data", **given) as server:
            token = server.token(1, "root", admin=True)
            async with Client(server.url, token=token, messages_per_s=0.0, backoff_s=(0.02, 0.2)) as admin:
                yield Stage(server, browser, site, admin)
