"""A service with mail, and the front end of FireMail as its client: on the WebSocket and over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from huahuo.actors.plugins.calls import Principal
from huahuo.app.config import Table
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.mailcheck import mail
from tests.support.drivers.http import client
from tests.support.drivers.rawclient import RawClient, raw


class FrontEnd(RawClient):
    """One connection of that front end."""

    async def say(self, kind: str, **fields: Any) -> None:  # type: ignore[override]
        await self.say_raw(msgspec.json.encode({"type": kind, **fields}).decode())


class Running:
    """A service with mail, and its users' tokens."""

    def __init__(self, app: App) -> None:
        self.app = app

    def token(self, user_id: int = 42) -> str:
        login = self.app.login
        return login.authenticator.mint(
            Principal(user_id, f"u{user_id}"),
            now_ms=self.app.clock.now_ms(),
            ttl_s=3600,
            jti="",
        )

    def http(self, token: str | None = None) -> httpx.AsyncClient:
        return client(self.app.url, token)

    @asynccontextmanager
    async def front_end(self, path: str = "/ws") -> AsyncIterator[FrontEnd]:
        url = self.app.url.replace("http", "ws") + path
        async with raw(url) as client:
            yield FrontEnd(client.ws)

    @asynccontextmanager
    async def signed_in(self, user_id: int = 42) -> AsyncIterator[FrontEnd]:
        async with self.front_end() as client:
            await client.say("authenticate", token=self.token(user_id))
            assert await client.next() == {"type": "auth_result", "success": True, "message": "认证成功"}
            yield client


@asynccontextmanager
async def service(data: Path, **settings: Any) -> AsyncIterator[Running]:
    plugins = [mail()]
    flags = {"data": data, "port": 0, "mail_allow_private": True, **settings}
    app = App(Table(plugins).load(environ={}, flags=flags), SystemAmbient(), plugins=plugins)
    await app.start()
    try:
        yield Running(app)
    finally:
        await app.stop(2)
