"""One address before several nodes: a new connection goes to one that is ready, and is cut when that hangs.

`python -m huahuo.demo.balancer --port 8700 http://127.0.0.1:9001 http://127.0.0.1:9002` is the same as a
program. It is for the demo and for tests of faults. In production a proxy with health checks does this.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence
from typing import Final, Self
from urllib.parse import urlsplit

LOOK_S: Final = 0.25
ANSWER_S: Final = 1.0
"""A node that does not answer a probe within this time hangs: its connections are cut."""
_PROBE: Final = b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
_BYTES: Final = 64 << 10


class Target:
    """A node, as the balancer sees it. `ready` and `lives` are what the last probe said."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None, url
        assert parts.port is not None, url
        self.host, self.port = parts.hostname, parts.port
        self.ready = self.lives = False
        self.open: set[asyncio.Transport | asyncio.WriteTransport] = set()

    def cut(self) -> None:
        """Abort all connections."""
        for transport in tuple(self.open):
            transport.abort()

    async def probe(self, answer_s: float) -> None:
        """Ask whether it is ready."""
        try:
            async with asyncio.timeout(answer_s):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    writer.write(_PROBE)
                    status = (await reader.readline()).split()
                finally:
                    writer.transport.abort()
            self.lives, self.ready = len(status) > 1, status[1:2] == [b"200"]
        except (OSError, TimeoutError):
            self.lives = self.ready = False
            self.cut()


class Balancer:
    """See the module. Use it with `async with`; then `port` is known."""

    def __init__(self, urls: Sequence[str], port: int = 0, *, answer_s: float = ANSWER_S) -> None:
        self.port = port
        self._answer_s = answer_s
        self.targets = [Target(url) for url in urls]
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        for target in self.targets:
            self._tasks.add(asyncio.create_task(self._watch(target), name=f"probe {target.port}"))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for target in self.targets:
            target.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, target: Target) -> None:
        while True:
            await target.probe(self._answer_s)
            await asyncio.sleep(LOOK_S)

    def _choices(self) -> list[Target]:
        """The nodes to try: those that are ready, then those that live; of these the emptiest first."""
        living = [target for target in self.targets if target.lives]
        return sorted(living, key=lambda target: (not target.ready, len(target.open)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for target in self._choices():
            try:
                async with asyncio.timeout(ANSWER_S):
                    there, back = await asyncio.open_connection(target.host, target.port)
            except (OSError, TimeoutError):
                continue
            both = {writer.transport, back.transport}
            target.open |= both
            try:
                await asyncio.wait(
                    {
                        asyncio.ensure_future(_copy(reader, back)),
                        asyncio.ensure_future(_copy(there, writer)),
                    }
                )
            finally:
                target.open -= both
                for transport in both:
                    transport.abort()
            return
        writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_BYTES):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()


async def _run(urls: Sequence[str], port: int, answer_s: float) -> None:
    async with Balancer(urls, port, answer_s=answer_s) as balancer:
        sys.stdout.write(f"listening on http://127.0.0.1:{balancer.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--answer-s", type=float, default=ANSWER_S, help="longest answer of a node")
    parser.add_argument("urls", nargs="+")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(given.urls, given.port, given.answer_s))
