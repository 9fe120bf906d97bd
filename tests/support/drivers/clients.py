"""The Python client against the real server of `tests.support.worlds.wire`, with a proxy between them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from huahuo.transport.client.client import Client
from huahuo.transport.client.model import Event, Status
from huahuo.transport.client.subscription import Events
from tests.support.patience import WITHIN_S
from tests.support.servers.proxy import ChaosProxy, chaos_proxy
from tests.support.worlds.wire import World, world

STREAM = "user/42"
BACKOFF_S = (0.01, 0.05)


@asynccontextmanager
async def behind_proxy(**options: Any) -> AsyncIterator[tuple[World, ChaosProxy]]:
    """A server and a proxy in front of it."""
    async with asyncio.timeout(WITHIN_S), world(**options) as server, chaos_proxy(server.port) as proxy:
        yield server, proxy


def client_of(server: World, port: int = 0, **options: Any) -> Client:
    """A client as Alice that returns quickly. `port`: a proxy's."""
    if "token" not in options and "get_token" not in options:
        options["token"] = server.token()
    return Client(f"127.0.0.1:{port or server.port}", backoff_s=BACKOFF_S, **options)


async def collect(events: Events, count: int) -> list[Event]:
    """The next `count` events; each but the last counts as processed."""
    return [await anext(events) for _ in range(count)]


def texts(events: list[Event]) -> list[str]:
    return [event.data["text"] for event in events]


class Heard:
    """Keeps the statuses that a listener gets; `wait` waits for one of a kind."""

    def __init__(self, client: Client) -> None:
        self.all: list[Status] = []
        self._news = asyncio.Event()
        client.on_status(self._hear)

    def _hear(self, status: Status) -> None:
        self.all.append(status)
        self._news.set()

    def of[T](self, kind: type[T]) -> list[T]:
        return [one for one in self.all if isinstance(one, kind)]

    async def wait[T](self, kind: type[T], count: int = 1, *, where: Callable[[T], bool] = bool) -> T:
        """The `count`th of this kind for which `where` holds."""
        while len(found := [one for one in self.of(kind) if where(one)]) < count:
            self._news.clear()
            await self._news.wait()
        return found[count - 1]
