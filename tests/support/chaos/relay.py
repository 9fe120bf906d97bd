"""A relay before each server of the ordered log, for one node: it can be cut, as a network between them can.

All relays run on one thread with a loop of its own, so that a thousand clients do not slow them down.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence


class Relay:
    """Listens for one node, and passes on to one server."""

    def __init__(self, port_there: int) -> None:
        self.port = 0
        self._there = port_there
        self._whole = True
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> None:
        """Drop all connections and take no new ones."""
        self._whole = False
        for writer in tuple(self._open):
            writer.transport.abort()

    def heal(self) -> None:
        self._whole = True

    def _is_cut(self) -> bool:
        return not self._whole

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._is_cut():
                raise ConnectionError
            there, back = await asyncio.open_connection("127.0.0.1", self._there)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        if self._is_cut():  # meanwhile
            for each in both:
                each.transport.abort()
            return
        self._open |= both
        await asyncio.gather(_copy(reader, back), _copy(there, writer))
        self._open -= both


class Network:
    """The relays of all nodes. `of(node)` are the ports for `--log`."""

    def __init__(self, nodes: Sequence[str], servers: Sequence[int]) -> None:
        self._relays = {node: [Relay(port) for port in servers] for node in nodes}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def of(self, node: str) -> list[int]:
        return [relay.port for relay in self._relays[node]]

    def cut(self, node: str) -> None:
        self._each(node, Relay.cut)

    def heal(self, node: str) -> None:
        self._each(node, Relay.heal)

    def _each(self, node: str, do: Callable[[Relay], None]) -> None:
        for relay in self._relays[node]:
            self._loop.call_soon_threadsafe(do, relay)

    def start(self) -> None:
        self._thread.start()
        for relays in self._relays.values():
            for relay in relays:
                self.wait(relay.start())

    def wait(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def stop(self) -> None:
        for relays in self._relays.values():
            for relay in relays:
                self.wait(relay.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def network(nodes: Sequence[str], servers: Sequence[int]) -> Iterator[Network]:
    """Relays between these nodes and the servers at these ports."""
    made = Network(nodes, servers)
    made.start()
    try:
        yield made
    finally:
        made.stop()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(64 << 10):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
