"""The pipe between an owner and a worker: whole messages, in order, and a bound on what waits."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from huahuo.transport.workers import channel as module
from huahuo.transport.workers.channel import FROM_WORKER, Enter, Left, Pipe, Ready, encode
from tests.support.patience import WITHIN_S


class End:
    def __init__(self) -> None:
        self.came: list[object] = []
        self.cannot: object = None
        self.some = asyncio.Event()
        self.lost = asyncio.Event()
        self.pipe = Pipe(FROM_WORKER, self.take, self.lost.set)

    def take(self, message: object) -> None:
        self.came.append(message)
        self.some.set()
        if message == self.cannot:
            raise RuntimeError("canary")

    async def until(self, count: int) -> list[object]:
        async with asyncio.timeout(WITHIN_S):
            while len(self.came) < count:
                self.some.clear()
                await self.some.wait()
        return self.came


@asynccontextmanager
async def ends() -> AsyncIterator[tuple[End, End]]:
    one, other = socket.socketpair()
    here, there = End(), End()
    await here.pipe.open(one)
    await there.pipe.open(other)
    try:
        yield here, there
    finally:
        here.pipe.close()
        there.pipe.close()


async def test_messages_arrive_whole_and_in_order() -> None:
    async with ends() as (here, there):
        sent: list[object] = [Enter(n, "x" * (n * 997)) for n in range(200)]
        for message in sent:
            here.pipe.send(message)
        assert await there.until(200) == sent


async def test_a_commit_leaves_before_those_who_have_the_loop_next() -> None:
    one, other = socket.socketpair()
    other.setblocking(False)
    with other:
        here, came = End(), list[bytes]()
        await here.pipe.open(one)

        def look() -> None:
            with contextlib.suppress(BlockingIOError):
                came.append(other.recv(1 << 10))

        asyncio.get_running_loop().call_soon(look)
        here.pipe.send(Ready())
        here.pipe.send_at_once(encode(Left("10.0.0.1")))
        await asyncio.sleep(0)
        assert came == [_in_pipe(Ready()) + _in_pipe(Left("10.0.0.1"))]
        here.pipe.close()


def _in_pipe(message: object) -> bytes:
    data = encode(message)
    return len(data).to_bytes(4) + data


async def test_what_was_sent_before_the_end_still_arrives() -> None:
    async with ends() as (here, there):
        here.pipe.send(Ready())
        here.pipe.close()
        assert await there.until(1) == [Ready()]
        async with asyncio.timeout(WITHIN_S):
            await there.lost.wait()


@pytest.mark.parametrize("data", [b"\xc1", encode(Left("a")).replace(b"\xa1a", b"\xa1\xff")])
async def test_a_message_that_is_none_ends_the_pipe(data: bytes) -> None:
    async with ends() as (here, there):
        here.pipe.send_encoded(data)
        async with asyncio.timeout(WITHIN_S):
            await there.lost.wait()
        assert there.came == []


async def test_one_message_that_cannot_be_handled_is_not_the_fault_of_the_next() -> None:
    async with ends() as (here, there):
        there.cannot = Left("10.0.0.1")
        here.pipe.send(Left("10.0.0.1"))
        here.pipe.send(Ready())
        assert await there.until(2) == [Left("10.0.0.1"), Ready()]


async def test_a_peer_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", 1 << 20)
    one, other = socket.socketpair()
    with other:
        here = End()
        await here.pipe.open(one)
        async with asyncio.timeout(WITHIN_S):
            while here.pipe.is_open:
                here.pipe.send_encoded(bytes(256 << 10))
                await asyncio.sleep(0)
        assert here.lost.is_set()
