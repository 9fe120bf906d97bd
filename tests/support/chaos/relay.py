"""A proxy before each server of the ordered log, for one node: it can be cut, as a network between them can.

All proxies run on one thread with a loop of its own, so that a thousand clients do not slow them down.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence

from tests.support.servers.proxy import ChaosProxy


class Network:
    """The proxies of all nodes. `of(node)` are the ports for `--log`."""

    def __init__(self, nodes: Sequence[str], servers: Sequence[int]) -> None:
        self._relays = {node: [ChaosProxy(port) for port in servers] for node in nodes}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def of(self, node: str) -> list[int]:
        return [relay.port for relay in self._relays[node]]

    def cut(self, node: str) -> None:
        self._each(node, ChaosProxy.refuse)
        self._each(node, ChaosProxy.cut)

    def heal(self, node: str) -> None:
        self._each(node, ChaosProxy.heal)

    def _each(self, node: str, do: Callable[[ChaosProxy], None]) -> None:
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
                self.wait(relay.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def network(nodes: Sequence[str], servers: Sequence[int]) -> Iterator[Network]:
    """Proxies between these nodes and the servers at these ports."""
    made = Network(nodes, servers)
    made.start()
    try:
        yield made
    finally:
        made.stop()
