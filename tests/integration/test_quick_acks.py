"""Acks straight from the bytes of a socket: whatever the bytes are, they do what the longer ways do."""

from functools import partial
from typing import Any

import pytest
from websockets.frames import TEXT, Frame

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server.hub import Hub
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
