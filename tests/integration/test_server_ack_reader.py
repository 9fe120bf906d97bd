"""Sockets of clients that send nothing but acks are read many at once: clients see no difference."""

import asyncio
import fcntl
import random
import termios
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from websockets.frames import CLOSE, CONT, PING, PONG, TEXT, Frame

from huahuo.app.forking_loop import ForkingLoop
from huahuo.transport import native
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.wire import web_socket
from huahuo.transport.wire.frame_reader import AckReader, Readable
from huahuo.transport.wire.ports import TakesAcks
from huahuo.transport.wire.sends import Way
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.sends import NEEDS, WAYS
from tests.support.worlds.wire import World, until, world

pytestmark = [
    pytest.mark.skipif(native.found() is None, reason=NEEDS),
    pytest.mark.loop(factory=ForkingLoop),
]
V1 = "huahuo.v1"
STREAM = "user/42"
EVENTS = 40
CLOSED = 0x88
"""The first byte of a close frame."""


def ack(seq: int, stream: str = STREAM) -> bytes:
    return b'{"action":"ack","cursors":{"%b":%d}}' % (stream.encode(), seq)


def framed(text: bytes) -> bytes:
    return Frame(TEXT, text).serialize(mask=True)


def read_together(w: World) -> list[bool]:
    """Of each socket, whether its transport does not read, because the ack reader does."""
    return [not ws.transport.is_reading() for ws in w.server.sockets]


def acked(w: World, seq: int) -> bool:
    return [one.session.delivery.subs[STREAM].flow.floor for one in w.connections] == [seq]


async def acking(w: World, client: RawClient, *, together: bool = True, last: int = 6) -> None:
    """A client whose acks have all been alike, so that its socket is read with others from the fifth on."""
    await client.authenticate(w.token(), client="c1")
    await w.append(STREAM, *(["x"] * EVENTS))
    while len(client.events(STREAM)) < EVENTS:
        await client.next()
    for seq in range(1, last + 1):
        client.ws.transport.write(framed(ack(seq)))
        await until(partial(acked, w, seq))
    assert read_together(w) == [together]


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The place that each socket was given at the ack reader, in their order."""
    given: list[int] = []
    admit = AckReader.admit

    def noted(self: AckReader, socket: Readable, acks: TakesAcks, descriptor: int) -> int:
        given.append(admit(self, socket, acks, descriptor))
        return given[-1]

    monkeypatch.setattr(AckReader, "admit", noted)
    return given


async def test_a_socket_is_read_with_others_after_some_acks_that_are_alike() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client)
        client.ws.transport.write(framed(ack(7)))
        await until(partial(acked, w, 7))
        await w.hub.write_acks()
        assert {one.stream: one.seq for one in await w.log.acks(client="c1")} == {STREAM: 7}


async def test_a_message_of_another_kind_is_answered_and_acks_go_on_together() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client)
        await client.quiet()
        assert read_together(w) == [False]
        for seq in range(7, 20):
            client.ws.transport.write(framed(ack(seq)))
            await until(partial(acked, w, seq))
        assert read_together(w) == [True]


async def test_a_few_acks_between_other_messages_do_not_change_the_reader_each_time(
    places: list[int],
) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client)
        assert places == [0]
        for seq in range(7, 31, 6):
            await client.quiet()
            for later in range(seq, seq + 6):
                client.ws.transport.write(framed(ack(later)))
                await until(partial(acked, w, later))
        assert places == [0]


@pytest.mark.parametrize("cut", [1, 5, 20, 43])
async def test_a_frame_that_comes_in_two_pieces_is_read_whole(cut: int) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client)
        frame = framed(ack(8))
        client.ws.transport.write(framed(ack(7)) + frame[:cut])
        await until(lambda: read_together(w) == [False])
        client.ws.transport.write(frame[cut:] + framed(b'{"action":"heartbeat","id":"h"}'))
        await client.until("heartbeat_response", id="h")
        assert acked(w, 8)


async def test_an_ack_beyond_the_last_event_is_refused() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client)
        client.ws.transport.write(framed(ack(EVENTS + 1)))
        await client.until("error", code="bad_ack")


async def test_a_client_that_ends_its_side_gets_the_answer_it_waits_for() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client)
        w.hold = held = asyncio.Event()
        client.ws.transport.write(framed(b'{"action":"note","id":"c1","text":"y"}'))
        client.ws.transport.write_eof()
        await until(lambda: w.executed == 1)
        held.set()
        await client.until("success", id="c1")
        await until(lambda: w.hub.open_count == 0)


async def test_a_client_that_ends_its_side_with_an_ack_has_acked() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client)
        client.ws.transport.write(framed(ack(9)))
        client.ws.transport.write_eof()
        await until(lambda: w.hub.open_count == 0)
        await w.hub.write_acks()
        assert {one.stream: one.seq for one in await w.log.acks(client="c1")} == {STREAM: 9}


async def test_a_client_that_is_gone_is_noticed() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client)
        client.ws.transport.abort()
        await until(lambda: w.hub.open_count == 0)


async def test_a_client_that_closes_is_answered() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client)
        await client.ws.close(4242, "bye")
        assert client.ws.close_code == 4242
        await until(lambda: w.hub.open_count == 0)


@pytest.mark.parametrize("last", [4, 5])
async def test_a_drain_tells_clients_to_come_back_also_if_nothing_came_meanwhile(last: int) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client, last=last)
        await w.server.drain(2)
        assert await client.closed() == CloseCode.DRAINING


async def test_a_socket_that_the_service_cuts_off_gives_its_place_to_the_next_one(places: list[int]) -> None:
    async with world() as w:
        for _ in range(3):
            async with raw(w.url, V1) as client:
                await client.authenticate(w.token(), client="c1")
                await w.append(STREAM, *(["x"] * 6))
                head = w.log.head(STREAM).seq
                while head not in dict(client.events(STREAM)):
                    await client.next()
                for seq in range(head - 5, head + 1):
                    client.ws.transport.write(framed(ack(seq)))
                    await until(partial(acked, w, seq))
                assert read_together(w) == [True]
                w.server.sockets[0].transport.abort()
                await until(lambda: w.hub.open_count == 0)
        assert places == [0, 0, 0]


async def test_bytes_that_were_read_of_a_socket_that_is_being_cut_off_do_nothing() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await acking(w, client)
        (socket,) = w.server.sockets
        socket.transport.abort()
        socket.handed(framed(b'{"action":"note","id":"c1","text":"y"}'))
        await until(lambda: w.hub.open_count == 0)
        assert w.executed == 0


async def test_the_setting_leaves_all_reading_to_the_transports() -> None:
    async with world(TransportSettings(sends="transport")) as w, raw(w.url, V1) as client:
        await acking(w, client, together=False)


def frames(chance: random.Random) -> Iterator[bytes]:
    """Frames that a client may send, most of them with an ack of the usual form. The last one closes."""
    seq = 6
    for number in range(100):
        seq = min(EVENTS, max(0, seq + chance.choice((-1, 0, 1, 1, 1, 2))))
        text = ack(seq)
        yield chance.choice(
            (
                *[framed(text)] * 30,
                framed(text) * 6,
                framed(ack(seq, "system")),
                framed(ack(EVENTS + 1)),
                framed(text + b" "),
                framed(b'{"action":"ack","cursors":{"user/42":1,"system":0}}'),
                framed(b'{"action":"heartbeat","id":"%d"}' % number),
                framed(b'{"action":"note","id":"n%d","text":"x"}' % number),
                framed(b'{"action":"subscribe","id":"%d","stream":"user/42"}' % number),
                Frame(PING, b"%d" % number).serialize(mask=True),
                Frame(PONG, b"").serialize(mask=True),
                Frame(TEXT, text[:9], fin=False).serialize(mask=True)
                + Frame(CONT, text[9:]).serialize(mask=True),
            )
        )
    yield Frame(CLOSE, b"\x03\xe8").serialize(mask=True)


async def arrived(w: World, client: RawClient) -> None:
    """The service has read all that the client has sent, and has done what it caused."""

    def read() -> bool:
        waiting = [fcntl.ioctl(ws._descriptor, termios.FIONREAD, b"\0" * 4) for ws in w.server.sockets]  # noqa: SLF001
        return not client.ws.transport.get_write_buffer_size() and not any(map(any, waiting))

    await until(read)
    for _ in range(20):
        await asyncio.sleep(0)


async def outcome(seed: int, way: Way) -> Any:
    """What the client was told, and what was kept, after the same bytes in the same pieces."""
    chance = random.Random(seed)
    async with world(TransportSettings(sends=way)) as w, raw(w.url, V1) as client:
        await acking(w, client, together=way != "transport")
        before, rest = len(client.seen), b""
        for frame in frames(chance):
            data = rest + frame
            cut = len(data) if frame[0] == CLOSED or chance.random() < 0.9 else chance.randint(1, len(data))
            client.ws.transport.write(data[:cut])
            rest = data[cut:]
            await arrived(w, client)
        code = await client.closed()
        await w.hub.write_acks()
        kept = {one.stream: one.seq for one in await w.log.acks(client="c1")}
        return client.seen[before:], code, kept, w.executed


@pytest.mark.parametrize("seed", range(6))
async def test_random_bytes_have_the_same_outcome_in_whatever_way_they_are_read(
    seed: int, places: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in ("_ALIKE_MIN", "_ALIKE_AGAIN"):
        monkeypatch.setattr(web_socket, number, 1)
    by_transport = await outcome(seed, "transport")
    assert not places
    for way in WAYS:
        if way != "transport":
            places.clear()
            assert await outcome(seed, way) == by_transport
            assert len(places) > 1, "it came and went"
            assert not any(places), "one place for one socket"
