"""The log as a worker knows it: heads on demand, moved by commits."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from huahuo.actors.entities.decider import Busy
from huahuo.actors.plugins.calls import Parted
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Head, StoredEvent
from huahuo.transport.load.fair_queueing import Turns
from huahuo.transport.load.shares import Shares
from huahuo.transport.workers import owner, owner_proxies
from huahuo.transport.workers.channel import Links, LinksFound, Questions, columns_of, events_of
from huahuo.transport.workers.owner import PartsKept
from huahuo.transport.workers.owner_proxies import RemoteLog


class Asked:
    """Questions that an owner with these heads answers at once."""

    def __init__(self, heads: dict[str, Head]) -> None:
        self.heads = heads

    def ask(self, make: Callable[[int], Any], _answers: msgspec.msgpack.Decoder[Any]) -> asyncio.Future[Any]:
        asked: Links = make(1)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        heads = {stream: self.heads.get(stream, Head()) for stream, seq in asked.places if not seq}
        future.set_result(LinksFound([None for _ in asked.places], heads))
        return future


def log_of(**heads: int) -> RemoteLog:
    owner = Asked({name: Head(1, seq, b"l" * 32) for name, seq in heads.items()})
    return RemoteLog(cast("Questions", owner), "log", 0, b"")


def event(position: int, stream: str, seq: int) -> StoredEvent:
    return StoredEvent(position, stream, seq, "noted", b"{}", 1, 0, "", "", "", 0, "t", bytes([seq]) * 32)


async def test_a_head_is_known_once_it_was_asked_for() -> None:
    log = log_of(a=7)
    assert (log.knows("a"), log.head("a").seq) == (False, 0)
    await log.links([("a", 0), ("b", 0)])
    assert (log.knows("a"), log.head("a").seq) == (True, 7)
    assert (log.knows("b"), log.head("b").seq) == (True, 0)


async def test_a_commit_moves_the_heads_that_are_known_and_no_others() -> None:
    log = log_of(a=7)
    await log.links([("a", 0)])
    log.committed(columns_of([event(1, "a", 8), event(2, "c", 1), event(3, "a", 9)]))
    assert (log.head("a").seq, log.head("a").link) == (9, bytes([9]) * 32)
    assert not log.knows("c")
    assert (log.position, log.head("log").seq) == (3, 3)


@pytest.mark.parametrize("different", [False, True])
def test_what_all_events_of_a_commit_share_is_told_once(different: bool) -> None:
    events = [event(n, f"user/{n}", 1) for n in range(1, 51)]
    if different:
        events[7] = msgspec.structs.replace(events[7], type="other", principal="user/1", version=2, cause=9)
    columns = columns_of(events)
    assert isinstance(columns[3], list) is different
    assert isinstance(columns[9], str), "no event has a command"
    assert events_of(columns) == events
    assert events_of(columns_of([])) == []


async def test_an_answer_that_was_overtaken_by_a_commit_moves_no_head_back() -> None:
    log = log_of(a=7)
    await log.links([("a", 0)])
    log.committed(columns_of([event(1, "a", 8)]))
    await log.links([("a", 0)])
    assert log.head("a").seq == 8


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
