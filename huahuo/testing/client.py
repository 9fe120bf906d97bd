"""A client of a test, connected to the service of a virtual world. All calls block."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from huahuo.transport.client import Client


class Running(Protocol):
    """The world in which a client is (`AppWorld`)."""

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the world's loop."""
        ...

    def advance(self, *, seconds: float) -> None:
        """Let time go by."""
        ...


class TestClient:
    """A signed-in client that follows streams."""

    __test__ = False  # the name is no test of pytest

    def __init__(self, world: Running, client: Client) -> None:
        self._world = world
        self.client = client
        """The Python client underneath."""
        self._seen: dict[str, list[dict[str, Any]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def send(self, action: str, **fields: Any) -> dict[str, Any]:
        """Send a command or query and return its reply. Raises CommandError: it was refused."""
        return self._world.run(self.client.send(action, **fields))

    def follow(self, stream: str) -> None:
        """Collect the events of `stream` from its beginning. Raises StreamDenied: it may not be read."""
        self._world.run(self._follow(stream))

    def events(self, stream: str) -> list[dict[str, Any]]:
        """The events that came so far, after everything that is under way has come."""
        if stream not in self._seen:
            raise LookupError(f"{stream} is not followed by this client: write .follow({stream!r}) first")
        self._world.advance(seconds=1)
        return list(self._seen[stream])

    def drop_connection(self) -> None:
        """Lose the connection. The client comes back by itself as time goes on."""
        socket = self.client._line.socket  # noqa: SLF001  an application has no reason to cut its own connection
        if socket is not None:
            socket.transport.abort()

    async def close(self) -> None:
        """Leave."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.close()

    async def _follow(self, stream: str) -> None:
        seen = self._seen.setdefault(stream, [])
        events = self.client.events(stream, first="start")
        await events.ready()

        async def collect() -> None:
            async with events:
                async for event in events:
                    seen.append({**event.data, "stream": event.stream, "seq": event.seq})

        self._tasks.append(asyncio.get_running_loop().create_task(collect()))
