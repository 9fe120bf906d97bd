"""A whole service in the test's loop, whose disk is as full as the test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from huahuo.app import credentials
from huahuo.app.application import standard
from huahuo.app.config import Settings
from huahuo.app.credentials import mint
from huahuo.app.foundation import World
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.transport.client.client import Client
from tests.support.patience import WITHIN_S

MIB = 1 << 20


class Disk:
    """A probe of the free space. `free` is what the test says."""

    def __init__(self, free: int = 1 << 40) -> None:
        self.free = free

    def __call__(self) -> int:
        return self.free


class Stored:
    """The service and its users."""

    def __init__(self, app: App, data: Path, disk: Disk) -> None:
        self.app = app
        self.data = data
        self.disk = disk

    def token(self, user_id: int, *, admin: bool = False) -> str:
        """A token of this user."""
        secret = credentials.read_keys(self.app.settings).jwt_secret
        return mint(secret, SystemAmbient(), user_id=user_id, username=f"u{user_id}", admin=admin)

    def client(self, user_id: int = 1, *, admin: bool = False) -> Client:
        """A client as this user. Use it with `async with`."""
        return Client(self.app.url, token=self.token(user_id, admin=admin), backoff_s=(0.01, 0.05))

    async def has_free(self, free: int) -> None:
        """From now on, this much is free, and the service has seen it."""
        self.disk.free = free
        assert self.app.storing.looking is not None
        await self.app.storing.looking.look()


@asynccontextmanager
async def stored(data: Path, *, real_disk: bool = False, **settings: Any) -> AsyncIterator[Stored]:
    """Run a service with mail on `data`. `real_disk`: ask the file system, not the test."""
    disk = Disk()
    world = World() if real_disk else World(free_bytes=lambda _data: disk)
    app = App(Settings(data=data, port=0, **settings), SystemAmbient(), world, plugins=standard())
    async with asyncio.timeout(WITHIN_S):
        await app.start()
        try:
            yield Stored(app, data, disk)
        finally:
            await app.stop()
