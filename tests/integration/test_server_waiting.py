"""What waits behind a user's turn takes few objects, and nothing of it is lost or changes its place."""

import asyncio
import contextlib

import msgspec
import pytest
from websockets.frames import TEXT, Frame

from huahuo.transport.load.fair_queueing import AT_ONCE
from huahuo.transport.protocol.codes import CloseCode
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"
COUNT = 50
_BEFORE_FRAMES = 8
"""What the actor and its inbox have taken of the messages, and one that is being taken."""


def frame(message: dict[str, object] | bytes) -> bytes:
    """A client's frame with this message."""
    text = message if isinstance(message, bytes) else msgspec.json.encode(message)
    return Frame(TEXT, text).serialize(mask=True)


def notes(count: int, first: int = 0) -> bytes:
    """Commands with ids and texts that follow each other."""
    numbers = range(first, first + count)
    return b"".join(frame({"action": "note", "id": f"n{n}", "text": f"{n}"}) for n in numbers)


def owe(w: World) -> None:
    """Let Alice owe time while another user is active, until the clock moves."""
    shares, now_s = w.delivering.turns.shares, w.ambient.monotonic_s()
    shares.charge("user/9", 0.001, now_s)
    shares.charge(ALICE.name, 0.04, now_s)


async def waiting(w: World, client: RawClient, sent: bytes, count: int) -> None:
    """Send these bytes, of which this many messages come to wait at the socket."""
    (ws,) = w.delivering.sockets
    client.ws.transport.write(sent)
    await until(lambda: ws.waiting_count >= count)


async def test_messages_that_wait_at_the_socket_are_not_kept_as_frames_and_keep_their_order() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        owe(w)
        await waiting(w, client, notes(COUNT), COUNT - _BEFORE_FRAMES)
        (ws,) = w.delivering.sockets
        assert len(ws.recv_messages.frames) <= 1
        w.ambient.advance(60.0)
        said = [(await client.until("success"))["id"] for _ in range(COUNT)]
        assert said == [f"n{n}" for n in range(COUNT)]
        assert not ws.waiting_count


async def test_a_text_that_is_no_utf8_ends_the_connection_behind_those_that_wait_before_it() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        owe(w)
        await waiting(w, client, notes(COUNT) + frame(b"\xff") + notes(1), COUNT - _BEFORE_FRAMES)
        w.ambient.advance(60.0)
        assert await client.closed() == CloseCode.BAD_UTF8
        assert w.executed == COUNT


async def test_commands_that_wait_are_carried_out_after_their_client_has_gone() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        owe(w)
        await waiting(w, client, notes(COUNT), COUNT - _BEFORE_FRAMES)
        client.ws.transport.abort()
        w.ambient.advance(60.0)
        await until(lambda: w.executed == COUNT)


async def test_commands_that_come_after_this_side_has_closed_stay_behind_those_that_wait() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        owe(w)
        await waiting(w, client, notes(_BEFORE_FRAMES - 1), 1)
        (ws,) = w.delivering.sockets
        await until(lambda: ws.waiting_count == 1 and ws.transport.is_reading())
        client.ws.transport.pause_reading()  # so that it does not answer the close
        ws.end(CloseCode.SERVER_FAULT, "", 60)  # as after a fault of a plug-in's interpreter
        client.ws.transport.write(notes(2, _BEFORE_FRAMES - 1))
        await until(lambda: ws.waiting_count == 3)
        w.ambient.advance(60.0)
        await until(lambda: w.log.head(ALICE.name).seq == _BEFORE_FRAMES + 1)
        stored = await w.log.read(ALICE.name, 0, events_max=COUNT, bytes_max=1 << 20)
        said = [msgspec.json.decode(event.body)["text"] for event in stored]
        assert said == [f"{n}" for n in range(_BEFORE_FRAMES + 1)]


async def test_queries_that_wait_for_their_turn_have_no_task() -> None:
    async with world() as w, raw(w.url, V1) as client, contextlib.AsyncExitStack() as turns:
        await client.authenticate(w.token())
        for _ in range(AT_ONCE):  # all that its user may have
            await turns.enter_async_context(w.delivering.turns.turn(ALICE.name))
        before = len(asyncio.all_tasks())
        asked = ({"action": "echo", "id": f"q{n}", "text": "x"} for n in range(COUNT))
        client.ws.transport.write(b"".join(frame(dict(one)) for one in asked))
        await until(lambda: w.delivering.turns.waiting == COUNT)
        assert len(asyncio.all_tasks()) < before + AT_ONCE
        await turns.aclose()
        said = {(await client.until("echo"))["id"] for _ in range(COUNT)}
        assert said == {f"q{n}" for n in range(COUNT)}


async def test_no_query_that_waits_is_begun_when_its_client_goes() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        turns = w.delivering.turns
        async with turns.turn(ALICE.name):
            async with contextlib.AsyncExitStack() as others:
                for _ in range(AT_ONCE - 1):
                    await others.enter_async_context(turns.turn(ALICE.name))
                asked = ({"action": "echo", "id": f"q{n}", "text": "x"} for n in range(COUNT))
                client.ws.transport.write(b"".join(frame(dict(one)) for one in asked))
                await until(lambda: turns.waiting == COUNT)
                owe(w)
            w.ambient.advance(60.0)  # several could begin now, if any of the line moved it on
            (ws,) = w.delivering.sockets
            ws.transport.abort()  # as a reset by the client does
            await until(lambda: not w.connections)
            assert (turns.waiting, w.queried) == (0, 0)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_client_that_ends_in_the_middle_of_a_message_is_let_go(end: str) -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        (ws,) = w.delivering.sockets
        client.ws.transport.write(frame({"action": "note", "id": "n", "text": "x" * 200})[:20])
        await until(lambda: ws.rest_bytes > 0)
        getattr(client.ws.transport, end)()
        await until(lambda: not w.connections)


async def test_a_client_that_ends_in_the_middle_of_a_message_has_its_answers_and_is_let_go() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        w.hold = asyncio.Event()
        client.ws.transport.write(notes(1))
        await until(lambda: w.executed == 1)
        client.ws.transport.write(frame({"action": "note", "id": "n", "text": "x" * 200})[:20])
        (ws,) = w.delivering.sockets
        await until(lambda: ws.rest_bytes > 0)
        client.ws.transport.write_eof()
        await until(lambda: ws._half_closed)  # noqa: SLF001  nothing tells
        w.hold.set()
        assert (await client.until("success"))["id"] == "n0"
        await until(lambda: not w.connections)
