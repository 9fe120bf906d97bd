"""Sockets that are read many at once: what comes reaches the socket it came to, whatever the others do."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs
from websockets.frames import TEXT, Frame

from huahuo.app.forking_loop import ForkingLoop
from huahuo.transport import native
from huahuo.transport.wire.frame_reader import AckReader, masked_frame
from tests.support.sends import NEEDS
from tests.support.worlds.wire import until

pytestmark = [
    pytest.mark.skipif(native.found() is None, reason=NEEDS),
    pytest.mark.loop(factory=ForkingLoop),
]

FRONT = b'{"action":"ack","cursors":{"user/42":'


def ack(seq: int) -> bytes:
    return Frame(TEXT, FRONT + b"%d}}" % seq).serialize(mask=True)


class Peer:
    """A socket and what it was handed, in order. It takes acks up to 100."""

    def __init__(self, reader: AckReader) -> None:
        self.front = FRONT
        self.reader = reader
        self.near, self.far = socket.socketpair()
        self.heard: list[int | bytes] = []
        self.aborted = False
        self.when_handed: Callable[[], None] = lambda: None
        self.place = reader.admit(self, self, self.near.fileno())

    def acked(self, seq: int, now_s: float) -> bool:
        assert now_s == 5.0
        if seq <= 100:
            self.heard.append(seq)
        return seq <= 100

    def take(self, data: bytes) -> bool:
        raise AssertionError("the socket's own way")

    def handed(self, data: bytes) -> None:
        self.heard.append(data)
        self.when_handed()

    def read_by_transport(self) -> None:
        if self.place >= 0:
            self.reader.dismiss(self.place)
            self.place = -1

    def abort(self) -> None:
        self.aborted = True


@contextlib.asynccontextmanager
async def peers(count: int) -> AsyncIterator[tuple[AckReader, list[Peer]]]:
    reader = AckReader(lambda: 5.0)
    reader.open()
    made = [Peer(reader) for _ in range(count)]
    try:
        yield reader, made
    finally:
        reader.close()
        for peer in made:
            peer.near.close()
            peer.far.close()


async def test_acks_reach_those_they_came_to() -> None:
    async with peers(3) as (_, made):
        for peer, seq in zip(made, (7, 8, 9), strict=True):
            peer.far.send(ack(seq))
        await until(lambda: [peer.heard for peer in made] == [[7], [8], [9]])


async def test_an_ack_that_is_not_taken_is_handed_as_a_frame() -> None:
    async with peers(1) as (_, [peer]):
        peer.far.send(ack(101))
        await until(lambda: len(peer.heard) == 1)
        assert peer.heard == [masked_frame(0x81, FRONT + b"101}}")]


async def test_what_was_read_of_one_that_leaves_meanwhile_is_handed_to_it_and_to_nobody_later() -> None:
    async with peers(2) as (reader, made):
        for one, other in (made, made[::-1]):
            one.when_handed = other.read_by_transport
        for peer in made:
            peer.far.send(b"x")
        await until(lambda: all(peer.heard for peer in made))
        assert [peer.heard for peer in made] == [[b"x"], [b"x"]]
        assert [peer.place for peer in made] == [-1, -1]
        later = [Peer(reader), Peer(reader)]
        assert sorted(peer.place for peer in later) == [0, 1], "their places are free again"
        for peer in made:
            peer.far.send(ack(1))
        for peer in later:
            peer.far.send(ack(2))
        await until(lambda: all(peer.heard for peer in later))
        assert [peer.heard for peer in made + later] == [[b"x"], [b"x"], [2], [2]]
        for peer in later:
            peer.read_by_transport()
            peer.near.close()
            peer.far.close()


async def test_an_ack_of_one_that_leaves_meanwhile_goes_its_longer_way() -> None:
    async with peers(2) as (_, [first, second]):
        first.when_handed = second.read_by_transport
        first.far.send(b"x")
        second.far.send(ack(1))  # told second, as it came
        await until(lambda: len(second.heard) == 1)
        assert second.heard == [masked_frame(0x81, FRONT + b"1}}")]


async def test_one_whose_peer_has_ended_is_read_by_its_transport() -> None:
    async with peers(2) as (_, [ends, stays]):
        ends.far.send(ack(1))
        ends.far.shutdown(socket.SHUT_WR)
        await until(lambda: ends.place == -1)
        assert ends.heard == []
        stays.far.send(ack(2))
        await until(lambda: stays.heard == [2])


async def test_a_fault_of_one_ends_it_and_costs_the_others_nothing() -> None:
    def breaks() -> None:
        raise RuntimeError("canary")

    async with peers(3) as (_, made):
        made[1].when_handed = breaks
        for peer in made:
            peer.far.send(b"x")
        with capture_logs() as logs:
            await until(lambda: all(peer.heard for peer in made))
        assert [peer.aborted for peer in made] == [False, True, False]
        assert [line["event"] for line in logs] == ["bytes_not_handled"]


async def test_after_the_close_all_are_read_by_their_transports() -> None:
    async with peers(2) as (reader, made):
        reader.close()
        assert [peer.place for peer in made] == [-1, -1]
        assert not reader.opened
        made[0].far.send(ack(1))
        for _ in range(5):
            await asyncio.sleep(0)
        assert made[0].heard == []


async def test_a_socket_that_cannot_be_watched_stays_with_its_transport() -> None:
    async with peers(1) as (reader, [peer]):
        with socket.socket() as closed:
            number = closed.fileno()
        assert reader.admit(peer, peer, number) == -1
        peer.far.send(ack(1))
        await until(lambda: peer.heard == [1])
