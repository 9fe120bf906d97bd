"""Acks straight from the bytes of a socket: whatever the bytes are, they do what the longer ways do."""

import asyncio
import random
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from websockets.frames import CONT, PING, TEXT, Frame

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server.connection import Connection
from huahuo.transport.server.hub import Hub
from huahuo.transport.wire.connection_ref import ConnectionRef
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.drivers.session import seqs
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"
STREAM = "user/42"
EVENTS = 40


def ack(seq: int, stream: str = STREAM) -> bytes:
    return b'{"action":"ack","cursors":{"%b":%d}}' % (stream.encode(), seq)


def framed(text: bytes) -> bytes:
    return Frame(TEXT, text).serialize(mask=True)


def owes(w: World, events: int) -> bool:
    return w.connections[0].session.delivery.window.outstanding == events


async def reading(w: World, client: RawClient, *texts: str) -> None:
    """A client that has been sent these events, and whose two acks were alike."""
    await client.authenticate(w.token(), client="c1")
    await w.append(STREAM, *texts)
    while len(client.events(STREAM)) < len(texts):
        await client.next()
    for seq in (1, 2):
        await client.say_raw(ack(seq).decode())
    await client.quiet()


async def test_an_ack_like_the_last_one_is_processed_and_kept() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await reading(w, client, *"abcde")
        for seq in (3, 4, 5):
            await client.say_raw(ack(seq).decode())
            await until(partial(owes, w, 5 - seq))
        await w.hub.write_acks()
        assert {one.stream: one.seq for one in await w.log.acks(client="c1")} == {STREAM: 5}


async def test_an_ack_makes_room_for_the_events_that_wait() -> None:
    async with world(TransportSettings(window=3)) as w, raw(w.url, V1) as client:
        await reading(w, client, *"abc")
        await w.append(STREAM, *"defgh")
        assert seqs([await client.until("events")], STREAM) == [4, 5]
        (connection,) = w.connections
        socket: Any = connection._ws  # noqa: SLF001  it is fed as the loop feeds it
        for seq in (3, 4, 5):
            socket.data_received(framed(ack(seq)))
            assert connection.session.delivery.cursors()[STREAM] == seq + 3, "at once, not at the next tick"


async def test_acks_are_processed_while_a_message_waits_for_an_answer() -> None:
    settings = TransportSettings(commands_outstanding_max=1, window=3)
    async with world(settings) as w, raw(w.url, V1) as client:
        await reading(w, client, *"abc")
        await w.append(STREAM, "d", "e", "f")
        assert seqs([await client.until("events")], STREAM) == [4, 5]
        w.hold = held = asyncio.Event()
        await client.say(action="note", id="c1", text="x")
        await client.say(action="note", id="c2", text="y")  # waits until c1 is answered
        await until(lambda: w.gate.running)
        await client.say_raw(ack(5).decode())
        assert seqs([await client.until("events")], STREAM)[0] == 6
        held.set()
        await client.until("success", id="c2")


async def test_a_fault_in_such_an_ack_is_said_with_goaway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(*_args: object) -> None:
        raise RuntimeError("canary")

    async with world() as w, raw(w.url, V1) as client:
        await reading(w, client, *"abcd")
        await client.say_raw(ack(3).decode())
        await until(partial(owes, w, 1))
        monkeypatch.setattr(Hub, "note_ack", breaks)
        await client.say_raw(ack(4).decode())
        assert await client.closed() == CloseCode.SERVER_FAULT
        assert (client.seen[-1]["type"], client.seen[-1]["code"]) == ("goaway", 1011)
        assert "canary" not in str(client.seen)


BEGUN = (
    b"\x81\xfe\x00\xc8\0\0\0\0" + b"x" * 20,  # a frame of 200 bytes
    Frame(TEXT, b"x", fin=False).serialize(mask=True),  # a message in fragments
)


@pytest.mark.parametrize("begun", BEGUN)
async def test_bytes_of_an_ack_inside_another_message_are_none(begun: bytes) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await reading(w, client, *"abcd")
        (connection,) = w.connections
        socket: Any = connection._ws  # noqa: SLF001  it is fed as the loop feeds it
        socket.data_received(framed(ack(3)))
        assert owes(w, 1)
        socket.data_received(framed(ack(3)))
        socket.data_received(begun)
        socket.data_received(framed(ack(4)))
        assert owes(w, 1)


def messages(chance: random.Random) -> Iterator[bytes]:
    """Frames that a client may send, most of them with an ack of the usual form."""
    seq = 0
    for number in range(60):
        seq = max(0, seq + chance.choice((-1, 0, 1, 1, 1, 2)))
        begun = Frame(TEXT, ack(seq)[:9], fin=False).serialize(mask=True)
        yield chance.choice(
            (
                *[framed(ack(min(seq, EVENTS)))] * 8,
                framed(ack(seq, "system")),
                framed(ack(EVENTS + 1)),
                framed(ack(seq) + b" "),
                framed(b'{"action":"ack","cursors":{"user/42":1,"system":0}}'),
                framed(b'{"action":"heartbeat","id":"%d"}' % number),
                framed(b'{"action":"subscribe","id":"%d","stream":"user/42"}' % number),
                Frame(PING, b"x").serialize(mask=True),
                begun + Frame(CONT, ack(seq)[9:]).serialize(mask=True),
            )
        )


def pieces(frames: Iterable[bytes], chance: random.Random) -> Iterator[bytes]:
    """As TCP may cut them: most come whole."""
    rest = b""
    for frame in frames:
        data = rest + frame
        cut = len(data) if chance.random() < 0.8 else chance.randint(1, len(data))
        yield data[:cut]
        rest = data[cut:]
    yield rest


async def outcome(seed: int) -> Any:
    """What the client was told, and what the service believes, after the same bytes in the same pieces."""
    chance = random.Random(seed)
    async with world(TransportSettings(window=64)) as w, raw(w.url, V1) as client:
        await reading(w, client, *(["x"] * EVENTS))
        (connection,) = w.connections
        before = len(client.seen)
        socket: Any = connection._ws  # noqa: SLF001  it is fed as the loop feeds it
        for piece in pieces(messages(chance), chance):
            socket.data_received(piece)
            for _ in range(5):  # what went through the library is handled
                await asyncio.sleep(0)
        await client.quiet()
        delivery = connection.session.delivery
        flows = {name: (sub.flow.floor, sub.flow.sent, sub.flow.peak) for name, sub in delivery.subs.items()}
        await w.hub.write_acks()
        kept = {one.stream: one.seq for one in await w.log.acks(client="c1")}
        return client.seen[before:], flows, delivery.window.outstanding, kept


@pytest.mark.parametrize("seed", range(6))
async def test_acks_read_at_the_socket_do_what_they_do_in_their_turn(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = await outcome(seed)
    monkeypatch.setattr(ConnectionRef, "took", lambda _ref, _text: False)
    monkeypatch.setattr(Connection, "_take_ack", lambda _connection, _text: False)
    assert at_once == await outcome(seed)
