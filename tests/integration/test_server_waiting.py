"""What waits for its turn, by user and by address: few objects, in order, within one budget."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import msgspec
import pytest
from websockets.frames import TEXT, Frame

from huahuo.actors.plugins.calls import Principal
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.load.fair_queueing import AT_ONCE, Rounds
from huahuo.transport.load.intake import weight
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server.server import ACCEPTS_A_TURN
from huahuo.transport.wire.frame_reader import PackedMessages
from tests.support.drivers.http import client
from tests.support.drivers.rawclient import RawClient, raw
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import World, until, world

V1 = "huahuo.v1"
COUNT = 50


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
        await waiting(w, client, notes(COUNT), COUNT)
        (ws,) = w.delivering.sockets
        kept = [one for one in gc.get_referents(ws) if isinstance(one, PackedMessages)]
        assert [one.count for one in kept] == [ws.waiting_count]
        w.ambient.advance(60.0)
        said = [(await client.until("success"))["id"] for _ in range(COUNT)]
        assert said == [f"n{n}" for n in range(COUNT)]
        assert not ws.waiting_count


async def test_a_text_that_is_no_utf8_ends_the_connection_and_those_before_it_are_carried_out() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        owe(w)
        await waiting(w, client, notes(COUNT) + frame(b"\xff") + notes(1), COUNT)
        w.ambient.advance(60.0)
        assert await client.closed() == CloseCode.BAD_UTF8
        await until(lambda: w.executed == COUNT)


async def test_commands_that_wait_are_carried_out_after_their_client_has_gone() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        owe(w)
        await waiting(w, client, notes(COUNT), COUNT)
        client.ws.transport.abort()
        w.ambient.advance(60.0)
        await until(lambda: w.executed == COUNT)


async def test_commands_that_come_after_this_side_has_closed_stay_behind_those_that_wait() -> None:
    async with world() as w, raw(w.url, V1) as client:
        await client.authenticate(w.token())
        owe(w)
        await waiting(w, client, notes(8), 8)
        (ws,) = w.delivering.sockets
        client.ws.transport.pause_reading()  # so that it does not answer the close
        ws.end(CloseCode.SERVER_FAULT, "", 60)  # as after a fault of a plug-in's interpreter
        client.ws.transport.write(notes(2, 8))
        await until(lambda: ws.waiting_count == 10)
        w.ambient.advance(60.0)
        await until(lambda: w.log.head(ALICE.name).seq == 10)
        stored = await w.log.read(ALICE.name, 0, events_max=COUNT, bytes_max=1 << 20)
        said = [msgspec.json.decode(event.body)["text"] for event in stored]
        assert said == [f"{n}" for n in range(10)]


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


ASKED = "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
WELCOME = b"HTTP/1.1 101 Switching Protocols\r\n"

type Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """In each world no turn of the loop has time; these addresses have no room."""
    full: set[str] = set()
    monkeypatch.setattr(Rounds, "may_begin", lambda _rounds, _owner: False)
    return full


@asynccontextmanager
async def asking(w: World, *addresses: str) -> AsyncIterator[list[Streams]]:
    found: list[Streams] = []
    try:
        for address in addresses:
            reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
            found.append((reader, writer))
            writer.write((ASKED.format(address) + KEY).encode())
        yield found
    finally:
        for _, writer in found:
            writer.transport.abort()


async def welcomed(streams: Streams) -> bool:
    async with asyncio.timeout(WITHIN_S):
        return await streams[0].readline() == WELCOME


async def test_sockets_of_an_address_wait_in_a_line_of_their_own_also_behind_a_proxy(
    crowded: set[str],
) -> None:
    async with world(door=AddressDoor(trusted_proxies=["127.0.0.1"])) as w:
        turns = w.delivering.turns.rounds
        turns.room.append(lambda owner: owner not in crowded)
        crowded.add("address 192.0.2.1")
        async with asking(w, *["192.0.2.1"] * 5, "192.0.2.2") as found:
            assert await welcomed(found[-1])
            await until(lambda: turns.waiting == 5)
            assert w.delivering.unauthenticated_count == 6
            crowded.clear()
            for one in found[:-1]:
                assert await welcomed(one)


async def test_a_socket_that_leaves_while_it_waits_holds_nothing(crowded: set[str]) -> None:
    async with world() as w:
        turns = w.delivering.turns.rounds
        turns.room.append(lambda owner: owner not in crowded)
        crowded.add("address 127.0.0.1")
        async with asking(w, "192.0.2.1"):
            await until(lambda: w.delivering.lobby_bytes)
        crowded.clear()
        await until(lambda: not turns.waiting and not w.delivering.unauthenticated_count)
        assert w.delivering.lobby_bytes == 0


async def test_one_turn_of_the_loop_accepts_a_bounded_number_of_connections() -> None:
    async with world() as w:
        with contextlib.ExitStack() as clients:
            for _ in range(10 * ACCEPTS_A_TURN):
                clients.enter_context(socket.create_connection(("127.0.0.1", w.port), WITHIN_S))
            # All of them wait in the kernel: the loop had no turn since.
            counts = [0]
            async with asyncio.timeout(WITHIN_S):
                while counts[-1] < 10 * ACCEPTS_A_TURN:
                    await asyncio.sleep(0)
                    counts.append(w.delivering.unauthenticated_count)
            assert max(later - sooner for sooner, later in pairwise(counts)) <= ACCEPTS_A_TURN


ADMIN, OTHER = Principal(1, "root", is_admin=True), Principal(2, "boss", is_admin=True)
BYTES_MAX = 16 << 20
SMALL = TransportSettings(intake_bytes_max=BYTES_MAX)
LONG = "A" * 200_000


def _peak(w: World) -> list[int]:
    """The highest sum so far, kept up to date."""
    intake, peak = w.server.intake, [0]
    add = intake.add

    def seen(user: str, size: int) -> None:
        add(user, size)
        peak[0] = max(peak[0], intake.used)

    intake.add = seen  # type: ignore[method-assign]
    return peak


def _event(text: str) -> dict[str, object]:
    return {"stream": "group/a", "type": "said", "fields": {"text": text}}


async def test_many_long_bodies_never_hold_more_than_the_budget_and_all_are_answered() -> None:
    async with world(SMALL) as w:
        peak, body = _peak(w), msgspec.json.encode(_event(LONG))
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token(ADMIN)}\r\n"
        begun = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:1000]
        sockets = [await asyncio.open_connection("127.0.0.1", w.port) for _ in range(8)]
        for _, down in sockets:
            down.write(begun)
        await until(lambda: w.server.intake.waiting == 7)
        async with client(f"http://127.0.0.1:{w.port}", w.token(OTHER)) as other:
            assert (await other.post("/publish", json=_event("hello"))).status_code == 200
        for _, down in sockets:
            down.write(body[1000:])
        async with asyncio.timeout(WITHIN_S):
            statuses = [await up.readline() for up, _ in sockets]
        assert statuses == [b"HTTP/1.1 200 OK\r\n"] * 8
        assert weight(len(body)) <= peak[0] <= BYTES_MAX
        for _, down in sockets:
            down.close()
        await until(lambda: not w.server.intake.used)


async def test_a_body_that_is_announced_waits_unread_and_is_free_when_its_client_leaves() -> None:
    async with world(SMALL) as w:
        head = f"POST /publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.token(ADMIN)}\r\n"
        begun = head.encode() + b"Content-Length: 900000\r\n\r\n{"
        downs = []
        for _ in range(4):
            _, down = await asyncio.open_connection("127.0.0.1", w.port)
            down.write(begun)
            downs.append(down)
        await until(lambda: w.server.intake.waiting == 3)
        assert w.server.intake.of("user/1") == weight(900_000)
        for down in downs:
            down.close()
        await until(lambda: not w.server.intake.used)
        assert w.server.intake.waiting == 0


async def test_long_messages_of_many_sockets_never_hold_more_than_the_budget() -> None:
    async with world(SMALL) as w:
        peak = _peak(w)

        async def publish() -> str:
            async with raw(w.url, "huahuo.v1") as c:
                await c.authenticate(w.token(ADMIN))
                said = {"action": "publish", "id": "1", "stream": "group/a", "type": "said", "text": LONG}
                await c.ws.send(msgspec.json.encode(said).decode())
                async with asyncio.timeout(WITHIN_S):
                    while (answer := await c.next())["type"] == "live":
                        pass
                return str(answer.get("code", answer["type"]))

        said = await asyncio.gather(*(publish() for _ in range(8)))
        assert set(said) == {"success"}
        # What is handed over counts at its socket and as its command for a moment.
        assert weight(200_000) <= peak[0] <= BYTES_MAX + weight(200_000)
        await until(lambda: not w.server.intake.used)
