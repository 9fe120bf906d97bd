"""The board: large commits are written once for all workers, and no place is used again too early."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Listener, Log
from huahuo.transport.workers.board import Board, BoardRead, Room
from huahuo.transport.workers.desk import Desk
from huahuo.transport.workers.messages import FROM_OWNER, Commit, Lies, columns_of, encode, events_of
from huahuo.transport.workers.telling import tell_commits
from huahuo.transport.workers.worker import Worker
from tests.support.patience import WITHIN_S

SIZE = 1000
memory_is_shared = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux alone has memfd_create")

step = st.one_of(
    st.tuples(st.just("place"), st.integers(1, 400), st.sets(st.sampled_from("abc"), min_size=1)),
    st.tuples(st.just("read"), st.sampled_from("abc"), st.integers(0, 9)),
    st.tuples(st.just("gone"), st.sampled_from("abc"), st.just(0)),
)


@given(st.lists(step, max_size=60))
def test_no_place_overlaps_one_that_somebody_has_not_read(steps: list[tuple[str, Any, Any]]) -> None:
    room: Room[str] = Room(SIZE)
    unread: dict[int, tuple[Lies, set[str]]] = {}
    for what, one, other in steps:
        if what == "place":
            lies = room.place(one, other)
            if lies is not None:
                assert 0 <= lies.start <= lies.start + lies.length <= SIZE
                for there, _ in unread.values():
                    assert lies.start >= there.start + there.length or there.start >= lies.start + lies.length
                unread[lies.number] = (lies, set(other))
        elif what == "read":
            numbers = sorted(unread)
            if other < len(numbers):
                room.read(one, numbers[other])
                unread[numbers[other]][1].discard(one)
        else:
            room.gone(one)
            for _, readers in unread.values():
                readers.discard(one)
        unread = {number: kept for number, kept in unread.items() if kept[1]}
    for reader in "abc":
        room.gone(reader)
    assert room.place(SIZE, {"a"}) is not None


class FakeLog:
    listener: Listener

    def listen(self, listener: Listener) -> Callable[[], None]:
        self.listener = listener
        return lambda: None


class FakeDesk:
    """A desk whose worker is told what `came`."""

    def __init__(self) -> None:
        self.pipe = self
        self.is_open = True
        self.came: list[object] = []
        self.sizes: list[int] = []

    def send_encoded(self, data: bytes) -> None:
        self.came.append(FROM_OWNER.decode(data))
        self.sizes.append(len(data))


def commit(count: int, at: int = 0) -> list[StoredEvent]:
    return [
        StoredEvent(
            n, f"user/{n}", 1, "noted", b"{%s}" % (b" " * 200), 1, n, "", "service", "", 0, "b", bytes(32)
        )
        for n in range(at + 1, at + 1 + count)
    ]


@contextmanager
def telling(
    desks: Sequence[FakeDesk], size: int
) -> Iterator[tuple[Board, Callable[[list[StoredEvent]], None]]]:
    log, board = FakeLog(), Board(size, from_bytes=4096)
    tell_commits(cast("Log", log), lambda: cast("Sequence[Desk]", desks), board)
    try:
        yield board, log.listener
    finally:
        board.close()


@memory_is_shared
def test_a_large_commit_is_written_once_and_its_place_is_told_to_all() -> None:
    desks = [FakeDesk(), FakeDesk()]
    with telling(desks, 1 << 20) as (board, committed):
        committed(events := commit(100))
        reads = BoardRead(board.descriptor)
        for desk in desks:
            [lies] = desk.came
            assert isinstance(lies, Lies)
            assert desk.sizes[0] < 32
            told = FROM_OWNER.decode(reads.at(lies))
            assert isinstance(told, Commit)
            assert events_of(told.events) == events


@memory_is_shared
def test_a_small_commit_and_one_without_room_go_through_the_sockets() -> None:
    desks = [FakeDesk(), FakeDesk()]
    with telling(desks, 40_000) as (board, committed):
        committed(commit(1))
        assert isinstance(desks[0].came[-1], Commit)
        committed(commit(100))
        lies = desks[0].came[-1]
        assert isinstance(lies, Lies)
        committed(commit(100))
        assert isinstance(desks[0].came[-1], Commit)
        board.room.read(cast("Desk", desks[0]), lies.number)
        committed(commit(100))
        assert isinstance(desks[0].came[-1], Commit), "the other worker has not read it"
        board.room.gone(cast("Desk", desks[1]))
        committed(commit(100))
        assert isinstance(desks[0].came[-1], Lies)


@memory_is_shared
def test_a_worker_that_is_gone_holds_no_place() -> None:
    gone, here = FakeDesk(), FakeDesk()
    gone.is_open = False
    with telling([gone, here], 40_000) as (board, committed):
        for _ in range(3):
            committed(commit(100))
            lies = here.came[-1]
            assert isinstance(lies, Lies)
            board.room.read(cast("Desk", here), lies.number)
    assert gone.came == []


@memory_is_shared
async def test_a_worker_ends_if_what_lies_on_the_board_is_no_message() -> None:
    board = Board(4096, from_bytes=1)
    lies = board.put(b"\xc1", ["worker"])
    assert lies is not None
    (ours, theirs), (taking, giving) = socket.socketpair(), socket.socketpair()
    worker = Worker(FakeAmbient(), InlineExecutor(), lambda _hello: None)
    with ours, taking, giving:
        await worker.start(theirs, giving, [], BoardRead(board.descriptor))
        data = encode(lies)
        ours.send(len(data).to_bytes(4) + data)
        async with asyncio.timeout(WITHIN_S):
            await worker.over.wait()
        assert not worker.pipe.is_open
    board.close()


@pytest.mark.parametrize("different", [False, True])
def test_what_all_events_of_a_commit_share_is_told_once(different: bool) -> None:
    events = commit(50)
    if different:
        events[7] = msgspec.structs.replace(events[7], type="other", principal="user/1", version=2, cause=9)
    columns = columns_of(events)
    assert isinstance(columns[3], list) is different
    assert isinstance(columns[9], str), "no event has a command"
    assert events_of(columns) == events
    assert events_of(columns_of([])) == []
