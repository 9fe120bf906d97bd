"""Publishes to Centrifugo over its HTTP API as stdin says.

    python -m bench.servers.peers.centrifugo_publisher PORT

One request an event would measure HTTP. So whatever is published while a request is on its way goes
with the next one, up to a bound, as a batch that the server works off in order. A user's events take the
same of several connections always, which keeps their order and lets the server work on several at once.
"""

import asyncio
import re
import sys
from collections.abc import Sequence

from bench.servers.peers.centrifugo import API_KEY, FEEDS, channel
from bench.servers.source import Event, Source, body, obey
from huahuo.app import loops

LANES = 4
_BATCH_MAX = 1000
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def request(events: Sequence[Event], namespace: str = FEEDS) -> bytes:
    """One HTTP request that publishes all of them in order."""
    commands = b",".join(
        b'{"publish":{"channel":"%b","data":%b}}' % (channel(user, namespace).encode(), event)
        for user, event in events
    )
    content = b'{"commands":[%b]}' % commands
    return (
        b"POST /api/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"X-API-Key: %b\r\nContent-Length: %d\r\n\r\n%b" % (API_KEY.encode(), len(content), content)
    )


class Lane:
    """One connection, one request on its way at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, namespace: str = FEEDS
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._namespace = namespace
        self._waiting: list[tuple[Event, asyncio.Future[None]]] = []
        self._some = asyncio.Event()
        self._working = asyncio.ensure_future(self._work())

    def put(self, event: Event) -> asyncio.Future[None]:
        """Publish after everything that was put before; done when the server has said so."""
        assert not self._working.done(), self._working
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, done))
        self._some.set()
        return done

    def close(self) -> None:
        """Hang up."""
        self._working.cancel()
        self._writer.transport.abort()

    async def _work(self) -> None:
        while True:
            await self._some.wait()
            batch, self._waiting = self._waiting[:_BATCH_MAX], self._waiting[_BATCH_MAX:]
            if not self._waiting:
                self._some.clear()
            try:
                await self._publish([event for event, _ in batch])
            except (OSError, asyncio.IncompleteReadError, ConnectionError) as error:
                for _, done in (*batch, *self._waiting):
                    done.set_exception(ConnectionError(str(error)))
                return
            for _, done in batch:
                done.set_result(None)

    async def _publish(self, events: Sequence[Event]) -> None:
        self._writer.write(request(events, self._namespace))
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        answer = await (self._reader.readexactly(int(length.group(1))) if length else self._chunks())
        if not head.startswith(b"HTTP/1.1 200") or b'"error"' in answer:
            raise ConnectionError(f"{head.splitlines()[0]!r}: {answer[:200]!r}")

    async def _chunks(self) -> bytes:
        """The content of a long answer."""
        content = b""
        while size := int(await self._reader.readline(), 16):
            content += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readline()
        return content


class Publisher:
    """All lanes."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes

    @classmethod
    async def open(cls, port: int, namespace: str = FEEDS) -> "Publisher":
        """Connect."""
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(LANES)]
        return cls([Lane(*stream, namespace) for stream in streams])

    async def publish(self, events: Sequence[Event]) -> None:
        """See `source.Publish`."""
        lanes = self._lanes
        await asyncio.gather(*[lanes[user % len(lanes)].put((user, event)) for user, event in events])

    def close(self) -> None:
        """Hang up."""
        for lane in self._lanes:
            lane.close()


async def publish_for_harness(port: int) -> None:
    """Publish as stdin says."""
    publisher = await Publisher.open(port)
    await obey(Source(publisher.publish, body), {"port": port})


if __name__ == "__main__":
    loops.run(publish_for_harness(int(sys.argv[1])))
