"""A service with mail, and the front end of FireMail as its client: on the WebSocket and over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from huahuo.actors.plugins.calls import Principal
from huahuo.app.config import Table
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.mailcheck import mail
from tests.support.drivers.http import client
from tests.support.patience import WITHIN_S


class FrontEnd:
    """One connection of that front end. `seen` holds every message."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.seen: list[dict[str, Any]] = []

    async def say(self, kind: str, **fields: Any) -> None:
        await self.ws.send(msgspec.json.encode({"type": kind, **fields}).decode())

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(WITHIN_S):
            data = await self.ws.recv()
        assert isinstance(data, str), "it parses each message as JSON text"
        message: dict[str, Any] = msgspec.json.decode(data)
        self.seen.append(message)
        return message

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        while True:
            message = await self.next()
            if message["type"] == kind and all(message.get(name) == value for name, value in fields.items()):
                return message

    async def closed(self) -> int:
        try:
            while True:
                await self.next()
        except ConnectionClosed as end:
            return 0 if end.rcvd is None else end.rcvd.code


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
        async with connect(
            url, proxy=None, max_size=None, open_timeout=WITHIN_S
        ) as ws:  # browsers have no bound
            yield FrontEnd(ws)

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
