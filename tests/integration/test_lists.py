"""States and answers that no message could hold, over real sockets."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from huahuo.app import credentials
from huahuo.app.application import standard
from huahuo.app.config import Table
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.mailcheck.api.mailbox_list import RowsCut
from huahuo.mailcheck.records import Row
from huahuo.transport.client.client import Client
from huahuo.transport.client.cursors import MemoryCursors
from huahuo.transport.client.model import Cursor
from huahuo.transport.protocol.flow_control import TransportSettings
from tests.support.patience import WITHIN_S
from tests.support.worlds.wire import until, world

U = "user/42"
V1 = [Subprotocol("huahuo.v1")]
SMALL = TransportSettings(reply_bytes_max=100_000, part_bytes_max=4_000)
ROWS = [
    Row(n, 42, f"user{n}@example.com", "imap", "imap.example.com", 993, True, "2026-01-01T00:00:00Z")
    for n in range(1, 1_001)
]
EMAILS = msgspec.to_builtins(ROWS)


def state() -> RowsCut:
    return RowsCut(b'{"type":"echo","emails":[', ROWS, b"]}")


async def test_a_state_and_an_answer_larger_than_any_message_arrive_whole() -> None:
    async with world(SMALL) as w:
        w.parted = state()
        async with Client(w.url, token=w.token()) as client, client.events(U, after="snapshot") as events:
            assert (await anext(events)).data["state"]["emails"] == EMAILS
            await w.append(U, "goes on")
            event = await anext(events)
            assert (event.seq, event.data["text"]) == (1, "goes on")
            assert (await client.send("echo", text=""))["emails"] == EMAILS


async def test_a_client_that_comes_back_from_another_log_gets_all_of_the_state() -> None:
    async with world(SMALL) as w:
        w.parted = state()
        await w.append(U, "a", "b")
        cursors = MemoryCursors()
        cursors.save({U: Cursor("a log that is gone", 7)})
        async with Client(w.url, token=w.token(), cursors=cursors) as client, client.events(U) as events:
            event = await anext(events)
            assert (event.data["outcome"], event.seq) == ("reset", 2)
            assert event.data["state"]["emails"] == EMAILS


async def test_a_client_without_parts_is_refused_what_is_too_long_and_stays_connected() -> None:
    async with world(SMALL) as w, connect(w.url, subprotocols=V1, open_timeout=WITHIN_S) as ws:
        w.parted = state()
        await ws.send(msgspec.json.encode({"action": "authenticate", "token": w.token()}).decode())
        for request in (
            {"action": "subscribe", "id": "s", "stream": U, "after": "snapshot"},
            {"action": "echo", "id": "q", "text": ""},
            {"action": "heartbeat", "id": "h"},
        ):
            await ws.send(msgspec.json.encode(request).decode())
        said: list[dict[str, Any]] = []
        while not {"heartbeat_response", "error", "unsubscribed"} <= {one["type"] for one in said}:
            said.append(msgspec.json.decode(await ws.recv()))
        by_type = {one["type"]: one for one in said}
        assert by_type["unsubscribed"] == {"type": "unsubscribed", "stream": U, "reason": "too_large"}
        assert (by_type["error"]["id"], by_type["error"]["code"]) == ("q", "too_large")


class Endless:
    """So much that no buffer on the way takes it; counts what was made."""

    COUNT = 600
    PART = b'{"emails":["' + b"x" * (256 << 10) + b'"]}'

    def __init__(self) -> None:
        self.made = 0

    def pieces(self) -> Iterator[bytes]:
        return iter(())

    def part(self, start: int, _bytes_max: int) -> tuple[bytes, int | None]:
        self.made = start + 1
        return self.PART, start + 1 if start + 1 < self.COUNT else None


@pytest.mark.parametrize(
    "ask", [{"action": "subscribe", "stream": U, "after": "snapshot"}, {"action": "echo"}]
)
async def test_a_part_is_made_when_the_socket_has_room_for_it(ask: dict[str, str]) -> None:
    async with world() as w, connect(w.url, subprotocols=V1, max_queue=2, open_timeout=WITHIN_S) as ws:
        w.parted = parted = Endless()
        await ws.send(
            msgspec.json.encode({"action": "authenticate", "token": w.token(), "parts": True}).decode()
        )
        await ws.send(msgspec.json.encode(ask | {"id": "x", "text": ""}).decode())
        await until(lambda: parted.made > 1 and all(ws.paused for ws in w.server.sockets))
        assert parted.made < Endless.COUNT / 2
        numbers: list[int] = []
        while len(numbers) < Endless.COUNT:
            said = msgspec.json.decode(await ws.recv())
            if "part" in said:
                numbers.append(said["part"])
                assert said.get("more", False) is (said["part"] < Endless.COUNT)
        assert numbers == list(range(1, Endless.COUNT + 1))


async def test_many_connections_that_want_one_long_snapshot_share_its_parts() -> None:
    async with world(SMALL) as w, contextlib.AsyncExitStack() as stack:
        w.parted = state()
        clients = [await stack.enter_async_context(Client(w.url, token=w.token())) for _ in range(8)]

        async def first(client: Client) -> Any:
            async with client.events(U, after="snapshot") as events:
                return (await anext(events)).data["state"]["emails"]

        for emails in await asyncio.gather(*map(first, clients)):
            assert emails == EMAILS
        assert w.server.pictures.drawn == len(list(_starts(state())))


def _starts(cut: RowsCut) -> Iterator[int]:
    start: int | None = 0
    while start is not None:
        yield start
        start = cut.part(start, SMALL.part_bytes_max)[1]


async def test_a_reader_that_leaves_in_the_middle_ends_the_making() -> None:
    async with world() as w:
        w.parted = parted = Endless()
        async with connect(
            w.url, subprotocols=V1, max_queue=2, close_timeout=0.1, open_timeout=WITHIN_S
        ) as ws:
            await ws.send(
                msgspec.json.encode({"action": "authenticate", "token": w.token(), "parts": True}).decode()
            )
            await ws.send('{"action":"subscribe","id":"s","stream":"user/42","after":"snapshot"}')
            await until(lambda: parted.made > 1 and all(ws.paused for ws in w.server.sockets))
            ws.transport.abort()
        await until(lambda: not w.server.sockets)
        made = parted.made
        await asyncio.sleep(0)
        assert parted.made == made < Endless.COUNT


async def test_the_service_lists_its_mailboxes_in_pages_to_the_python_client(tmp_path: Any) -> None:
    settings = Table(standard()).load(environ={}, flags={"data": tmp_path, "port": 0, "log_level": "error"})
    app = App(settings, SystemAmbient(), plugins=standard())
    await app.start()
    try:
        token = credentials.mint(
            credentials.read_jwt_secret(settings), SystemAmbient(), user_id=42, username="alice"
        )
        async with Client(app.url, token=token) as client:
            lines = "\n".join(f"user{n:04}@example.com----secret-{n}" for n in range(5_000))
            await client.send("import_emails", data=lines, mail_type="imap")
            pages = [page async for page in client.pages("get_all_emails", limit=2_000, sort="-email")]
            assert [len(page["data"]) for page in pages] == [2_000, 2_000, 1_000]
            emails = [row["email"] for page in pages for row in page["data"]]
            assert emails == [f"user{n:04}@example.com" for n in range(4_999, -1, -1)]
            whole = await client.send("get_all_emails")
            assert "part" not in whole
            assert {row["email"] for row in whole["data"]} == set(emails)
    finally:
        await app.stop()
