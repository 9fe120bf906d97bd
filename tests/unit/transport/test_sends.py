"""Frames of one fan-out are collected and written at its end, in order, however little a socket takes."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from huahuo.transport.wire.sends import Sends, Way, descriptor_of
from tests.support.patience import WITHIN_S
from tests.support.sends import WAYS, need


class Out(asyncio.Protocol):
    """A socket of the server, reduced to what `WebSocket` does when it writes."""

    def __init__(self, sends: Sends) -> None:
        self.sends = sends
        self.collected = -1
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def write(self, frame: bytes) -> None:
        idle = not (self.transport.get_write_buffer_size() or self.transport.is_closing())
        if self.sends.collecting and (self.collected >= 0 or idle):
            self.sends.put(self, descriptor_of(self.transport), frame)
        else:
            self.write_rest(frame, 0)

    def write_rest(self, frame: bytes, written: int) -> None:
        self.transport.write(frame[written:])

    def abort(self) -> None:
        self.transport.abort()


@contextlib.asynccontextmanager
async def sockets(sends: Sends, count: int) -> AsyncIterator[list[tuple[Out, socket.socket]]]:
    loop = asyncio.get_running_loop()
    made = []
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            near, far = socket.socketpair()
            stack.enter_context(far)
            far.setblocking(False)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            out = Out(sends)
            await loop.create_connection(lambda out=out: out, sock=near)  # type: ignore[misc]
            stack.callback(out.abort)
            made.append((out, far))
        yield made
    await asyncio.sleep(0)


async def read(far: socket.socket, size: int) -> bytes:
    data = b""
    async with asyncio.timeout(WITHIN_S):
        while len(data) < size:
            data += await asyncio.get_running_loop().sock_recv(far, 1 << 20)
    return data


@pytest.fixture(params=WAYS)
async def sends(request: pytest.FixtureRequest) -> Sends:
    need(request.param)
    made = Sends(request.param)
    assert made.open() == request.param
    return made


async def differ(way: Way, seed: int) -> list[bytes]:
    """What each peer received in a random schedule of fan-outs, slow readers and single writes."""
    sends, chance = Sends(way), random.Random(seed)
    sends.open()
    async with sockets(sends, chance.randint(1, 6)) as made:
        written = [0] * len(made)
        heard = [b""] * len(made)
        for number in range(chance.randint(1, 12)):
            if collects := chance.random() < 0.8:
                sends.begin()
            for _ in range(chance.randint(0, 10)):
                at = chance.randrange(len(made))
                frame = b"%d." % number * chance.choice((1, 30, 2_000, 30_000))
                made[at][0].write(frame)
                written[at] += len(frame)
            if collects:
                sends.end()
            for at, (_, far) in enumerate(made):
                if chance.random() < 0.4:
                    with contextlib.suppress(BlockingIOError):
                        heard[at] += far.recv(chance.randint(1, 20_000))
            if chance.random() < 0.5:
                await asyncio.sleep(0)
        for at, (_, far) in enumerate(made):
            heard[at] += await read(far, written[at] - len(heard[at]))
    return heard


async def test_both_ways_give_every_peer_the_same_bytes_over_random_schedules() -> None:
    need("send")
    for seed in range(40):
        assert await differ("send", seed) == await differ("transport", seed), seed
