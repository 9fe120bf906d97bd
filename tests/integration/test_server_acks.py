"""Acks on a real socket: however they arrive, they count once, and never for another message."""

import asyncio
from typing import Any

import msgspec
import pytest
from websockets.frames import BINARY, TEXT, Frame

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.drivers.session import seqs
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"
STREAM = "user/42"


def ack(seq: int) -> bytes:
    text = msgspec.json.encode({"action": "ack", "cursors": {STREAM: seq}})
    return Frame(TEXT, text).serialize(mask=True)


async def three_of(w: World, client: RawClient) -> None:
    """Sign in with a window of three, which is then used up."""
    await client.authenticate(w.token(), window=3)
    await w.append(STREAM, *"abcdef")
    await client.until("events", seq=1)


def outstanding(w: World) -> int:
    (connection,) = w.connections
    return connection.session.delivery.window.outstanding


async def test_an_ack_in_two_segments_is_one_ack() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await three_of(w, client)
        (ws,) = w.delivering.sockets
        frame = ack(2)
        client.ws.transport.write(frame[:9])
        await until(lambda: ws.rest_bytes)
        client.ws.transport.write(frame[9:])
        assert seqs([await client.until("events")], STREAM) == [4, 5]
        client.ws.transport.write(ack(5))
        assert seqs([await client.until("events")], STREAM) == [6]


@pytest.mark.parametrize("head_bytes", [2, 6])
async def test_what_looks_like_an_ack_inside_a_frame_is_none(head_bytes: int) -> None:
    """The library has taken the head out of its buffer, and waits for the rest of the frame."""
    async with world() as w, raw(w.url, V1) as client:
        await three_of(w, client)
        (ws,) = w.delivering.sockets
        said, inside = Frame(BINARY, b"\xff" * 120).serialize(mask=True), ack(3)
        client.ws.transport.write(said[:head_bytes])
        await until(lambda: ws.rest_bytes == head_bytes)
        client.ws.transport.write(inside)
        await until(lambda: ws.rest_bytes > head_bytes or not outstanding(w))
        client.ws.transport.write(said[head_bytes + len(inside) :])
        assert (await client.until("error"))["code"] == "bad_message"
        assert outstanding(w) == 3


async def test_two_acks_in_one_segment_both_count() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await three_of(w, client)
        client.ws.transport.write(ack(1) + ack(3))
        while not seqs(client.seen, STREAM) or seqs(client.seen, STREAM)[-1] < 6:
            await client.next()
        await w.hub.stop()  # which writes what it has noted
        assert [(one.stream, one.seq) for one in await w.log.acks("user/42")] == [(STREAM, 3)]


async def test_an_ack_between_the_parts_of_a_message_is_a_breach() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await three_of(w, client)
        (ws,) = w.delivering.sockets
        client.ws.transport.write(Frame(TEXT, b'{"action":', fin=False).serialize(mask=True))
        await until(lambda: ws.rest_bytes)
        client.ws.transport.write(ack(2))
        assert await client.closed() == CloseCode.PROTOCOL_ERROR
        assert seqs(client.seen, STREAM) == [1, 2, 3]


async def test_an_ack_beyond_what_was_sent_is_answered_and_changes_nothing() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await three_of(w, client)
        client.ws.transport.write(ack(4))
        assert (await client.until("error"))["code"] == "bad_ack"
        assert outstanding(w) == 3


async def test_what_waits_behind_the_most_commands_is_bounded() -> None:
    settings = TransportSettings(commands_outstanding_max=1)
    async with world(settings) as w, raw(w.url, V1) as client:
        await three_of(w, client)
        (ws,) = w.delivering.sockets
        w.hold = asyncio.Event()
        note = msgspec.json.encode({"action": "note", "text": "x" * 30_000})
        sent = Frame(TEXT, note).serialize(mask=True) * 80
        client.ws.transport.write(sent)
        await until(lambda: ws.rest_bytes > 256 << 10)
        for _ in range(50):
            await asyncio.sleep(0)
        assert ws.rest_bytes < 600 << 10 < len(sent)
        w.hold.set()
        await until(lambda: w.executed == 80)


async def test_acks_are_heard_while_commands_wait_for_their_turn() -> None:
    async with world(TransportSettings(commands_outstanding_max=1)) as w, raw(w.url, V1) as client:
        await three_of(w, client)
        w.hold = asyncio.Event()
        for number in range(3):
            await client.say(action="note", id=f"n{number}", text="x")
        await until(lambda: w.executed == 1)
        client.ws.transport.write(ack(3))
        assert seqs([await client.until("events")], STREAM) == [4, 5, 6]
        w.hold.set()


async def reading(w: World, client: RawClient, *texts: str) -> None:
    """A client that has been sent these events, and whose two acks were alike."""
    await client.authenticate(w.token(), client="c1")
    await w.append(STREAM, *texts)
    while len(client.events(STREAM)) < len(texts):
        await client.next()
    client.ws.transport.write(ack(1) + ack(2))
    await client.quiet()


async def test_an_ack_like_the_last_one_is_processed_and_kept() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await reading(w, client, *"abcde")
        for seq in (3, 4, 5):
            client.ws.transport.write(ack(seq))
            await until(lambda left=5 - seq: outstanding(w) == left)  # type: ignore[misc]
        await w.hub.write_acks()
        assert {one.stream: one.seq for one in await w.log.acks(client="c1")} == {STREAM: 5}


async def test_an_ack_makes_room_at_once_for_the_events_that_wait() -> None:
    async with world(TransportSettings(window=3)) as w, raw(w.url, V1) as client:
        await reading(w, client, *"abc")
        await w.append(STREAM, *"defgh")
        assert seqs([await client.until("events")], STREAM) == [4, 5]
        (connection,) = w.connections
        socket: Any = connection._ws  # noqa: SLF001  it is fed as the loop feeds it
        for seq in (3, 4, 5):
            socket.data_received(ack(seq))
            assert connection.session.delivery.cursors()[STREAM] == seq + 3, "at once, not at the next tick"
