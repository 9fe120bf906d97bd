"""Worker processes: the channel, the remote log, errors."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from huahuo.actors.actor.messages import AskTimeout, HandlerCancelled, InboxFull
from huahuo.actors.entities.decider import Busy, Degraded
from huahuo.actors.plugins.calls import Parted
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Closed, Corrupt, QueueFull, TooLarge, Unavailable
from huahuo.eventstore.model import Head
from huahuo.transport.load.fair_queueing import Crowded, Turns
from huahuo.transport.load.shares import Shares
from huahuo.transport.workers import channel as module
from huahuo.transport.workers import owner, owner_proxies
from huahuo.transport.workers.channel import (
    Channel,
    LinksFound,
    OwnerPort,
    error_named,
    error_raised,
)
from huahuo.transport.workers.owner import PartsKept
from huahuo.transport.workers.owner_proxies import RemoteLog
from tests.support.patience import WITHIN_S


class End:
    """One end of a channel, whose owner's methods note their calls."""

    def __init__(self) -> None:
        self.came: list[tuple[object, ...]] = []
        self.cannot = ""
        self.some = asyncio.Event()
        self.lost = asyncio.Event()
        self.channel = Channel(OwnerPort, self, lost=self.lost.set, now_s=lambda: 0.0)

    def __getattr__(self, name: str) -> Any:
        def method(*args: object) -> object:
            self.came.append((name, *args))
            self.some.set()
            if name == self.cannot:
                raise Busy("canary")
            return self.later() if name == "piece" else "admitted"

        return method

    async def later(self) -> bytes:
        return b"text"

    async def until(self, count: int) -> list[tuple[object, ...]]:
        async with asyncio.timeout(WITHIN_S):
            while len(self.came) < count:
                self.some.clear()
                await self.some.wait()
        return self.came


@asynccontextmanager
async def ends() -> AsyncIterator[tuple[Channel, End]]:
    one, other = socket.socketpair()
    here, there = End(), End()
    await here.channel.open(one)
    await there.channel.open(other)
    try:
        yield here.channel, there
    finally:
        here.channel.close()
        there.channel.close()


async def test_one_message_that_cannot_be_handled_is_not_the_fault_of_the_next() -> None:
    async with ends() as (here, there):
        there.cannot = "left"
        here.say(OwnerPort.left, "10.0.0.1")
        here.say(OwnerPort.ready)
        assert await there.until(2) == [("left", "10.0.0.1"), ("ready",)]


async def test_a_peer_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES_MAX", 1 << 20)
    one, other = socket.socketpair()
    with other:
        here = End()
        await here.channel.open(one)
        async with asyncio.timeout(WITHIN_S):
            while here.channel.is_open:
                here.channel.send(bytes(256 << 10))
                await asyncio.sleep(0)
        assert here.lost.is_set()


class Asked:
    """A channel to an owner with these heads, which answers at once."""

    def __init__(self, heads: dict[str, Head]) -> None:
        self.heads = heads

    def ask(self, _links: object, places: list[tuple[str, int]]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        heads = {stream: self.heads.get(stream, Head()) for stream, seq in places if not seq}
        future.set_result(LinksFound([None for _ in places], heads))
        return future


def log_of(**heads: int) -> RemoteLog:
    owner = Asked({name: Head(1, seq, b"l" * 32) for name, seq in heads.items()})
    return RemoteLog(cast("Channel", owner), "log", 0, b"")


async def test_heads_of_streams_that_nobody_reads_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_proxies, "HEADS_MAX", 3)
    log = log_of()
    log.is_read = lambda stream: stream == "s0"
    for n in range(6):
        await log.links([(f"s{n}", 0)])
    assert [n for n in range(6) if log.knows(f"s{n}")] == [0, 4, 5]


class Long(Parted):
    def pieces(self) -> Any:
        return iter([b"{", b"}"])

    def part(self, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        return b"{}", None


async def test_of_too_many_long_answers_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "KEPT_MAX", 2)
    kept = PartsKept(Turns(Shares(), FakeAmbient(1).monotonic_s))
    first, second, third = (kept.keep(Long(), "user/1") for _ in range(3))
    assert await kept.part(second, 0, 100) == (b"{}", None)
    assert [await kept.piece(third), await kept.piece(third)] == [b"{}", b""]
    with pytest.raises(Busy):
        await kept.part(first, 0, 100)


TOLD = [
    AskTimeout("user/42", 30), InboxFull("user/42", 256), HandlerCancelled("stopped"), Busy("the inbox"),
    Degraded("user/42"), Closed("the log"), Corrupt("user/42", "not JSON"), QueueFull("the queue"),
    TooLarge("the event"), Unavailable("the disk"), TimeoutError("late"), Crowded("user/42"),
]  # fmt: skip


@pytest.mark.parametrize("error", TOLD, ids=lambda error: type(error).__name__)
def test_an_error_that_callers_treat_specially_arrives_as_its_kind_with_its_text(error: Exception) -> None:
    made = error_raised(*error_named(error))
    assert (type(made), str(made)) == (type(error), str(error))
