"""Publishes to NATS as stdin says; speaks the text protocol without a client library.

A library would be what is measured.  `python -m bench.nats_publisher PORT core|jetstream`
"""

import asyncio
import json
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

from bench.source import Event, Source, body, obey
from huahuo.app import process

STREAM = "EV"
HELLO = b'CONNECT {"verbose":false,"pedantic":false}\r\n'


class Publisher:
    """Speaks NATS' text protocol over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def open(cls, port: int) -> "Publisher":
        """Connect."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        writer.write(HELLO + b"SUB in.p 1\r\n")
        return cls(reader, writer)

    async def core(self, events: Sequence[Event]) -> None:
        """Publish; the server says nothing about it."""
        self._writer.write(b"".join(b"PUB u.%d %d\r\n%b\r\n" % (u, len(e), e) for u, e in events))
        await self._writer.drain()
        await asyncio.sleep(0)

    async def jetstream(self, events: Sequence[Event]) -> None:
        """Publish and wait until each is acknowledged; the answers come in order."""
        loop = asyncio.get_running_loop()
        waiting = [loop.create_future() for _ in events]
        self._waiting += waiting
        self._writer.write(b"".join(b"PUB u.%d in.p %d\r\n%b\r\n" % (u, len(e), e) for u, e in events))
        for done in waiting:
            answer = await done
            assert b'"error"' not in answer, answer

    async def make_stream(self) -> None:
        """A stream in a file that takes every subject of ours."""
        stream = {
            "name": STREAM,
            "subjects": ["u.*"],
            "storage": "file",
            "num_replicas": 1,
            "max_consumers": 20_000,
        }
        answer = await self.request(f"$JS.API.STREAM.CREATE.{STREAM}", stream)
        assert b'"error"' not in answer, answer

    async def request(self, subject: str, message: dict[str, Any]) -> bytes:
        """Ask JetStream's API."""
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        data = json.dumps(message).encode()
        self._writer.write(b"PUB %b in.p %d\r\n%b\r\n" % (subject.encode(), len(data), data))
        return await done

    async def _read(self) -> None:
        while line := await self._reader.readline():
            if line.startswith(b"MSG"):
                payload = await self._reader.readexactly(int(line.split()[-1]) + 2)
                self._waiting.popleft().set_result(payload)
            elif line.startswith(b"PING"):
                self._writer.write(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise ConnectionError(line.decode())


async def publish_for_harness(port: int, kind: str) -> None:
    """Publish as stdin says."""
    publisher = await Publisher.open(port)
    if kind == "jetstream":
        await publisher.make_stream()
    publish = publisher.jetstream if kind == "jetstream" else publisher.core

    await obey(Source(publish, body), {"port": port})


if __name__ == "__main__":
    process.run(publish_for_harness(int(sys.argv[1]), sys.argv[2]))
