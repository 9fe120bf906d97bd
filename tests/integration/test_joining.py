"""A node that begins empty and follows the order from its first proposal says meanwhile how far it is."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from huahuo.app import nodes, service_port
from huahuo.app.config import Settings
from huahuo.app.credentials import Keys
from huahuo.app.nodes import follow
from huahuo.app.service_port import WaitingRoom
from huahuo.app.workers import open_port
from huahuo.cluster import members
from huahuo.cluster.members import Member
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.replicated.writer import PARTS, ReplicaWriter
from huahuo.eventstore.sequencer.port import Ordered
from huahuo.eventstore.sqlite.log import held_in, open_log
from huahuo.transport.server.server import Server
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port
from tests.support.worlds.logs import MASTER_KEY
from tests.support.worlds.wire import until


class Slow(MemorySequencer):
    """Gives proposals up to `upto`, and the rest once `goes_on` is set."""

    def __init__(self, order: MemoryOrder, upto: int) -> None:
        super().__init__(order)
        self.upto = upto
        self.goes_on = asyncio.Event()

    async def follow(self, after: int) -> AsyncGenerator[Ordered]:
        async for one in super().follow(after):
            if one.offset > self.upto:
                await self.goes_on.wait()
            yield one


@contextlib.asynccontextmanager
async def opened(data: Path, way: MemorySequencer, node: str) -> AsyncIterator[ReplicaWriter]:
    log = await open_log(
        data, ambient=SystemAmbient(), master_key=MASTER_KEY, build="t", sequencer=way, node=node
    )
    assert isinstance(log.writer, ReplicaWriter)
    yield log.writer
    await log.close()


async def ask(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET %b HTTP/1.1\r\nHost: node\r\n\r\n" % path.encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body.strip()


async def long_order(data: Path) -> MemoryOrder:
    """The order of a node that lives no more, with proposals of strangers behind its own."""
    order = MemoryOrder()
    async with opened(data, MemorySequencer(order), "a") as writer:
        await writer.joined()
    while order.last < 2 * PARTS:
        order.put(b"of another log")
    return order


async def test_readyz_says_how_far_a_node_is_that_follows_from_the_beginning(tmp_path: Path) -> None:
    order = await long_order(tmp_path / "a")
    way = Slow(order, PARTS)
    async with opened(tmp_path / "b", way, "b") as writer:
        with held_port() as port:
            async with WaitingRoom("127.0.0.1", port) as room:
                await room.open()
                following = asyncio.create_task(follow(writer, room))
                half = f"this node applies what was ordered before it started: {PARTS} of {order.last}"
                await until(lambda: room.said == half)
                assert await ask(port, "/readyz") == (503, half)
                assert await ask(port, "/healthz") == (200, "ok")
                way.goes_on.set()
                await following


async def test_a_node_that_cannot_go_on_ends_with_the_reason(tmp_path: Path) -> None:
    way = Slow(await long_order(tmp_path / "a"), PARTS)
    async with opened(tmp_path / "b", way, "b") as writer:
        room = WaitingRoom("127.0.0.1", 0)
        following = asyncio.create_task(follow(writer, room))
        await until(lambda: writer.shared.offset == PARTS)
        writer.halt("the log went back")
        with pytest.raises(ConfigError, match="this node can't go on: the log went back"):
            await following


async def test_a_node_that_runs_while_what_it_needs_is_trimmed_says_that_a_start_helps(
    tmp_path: Path,
) -> None:
    order = await long_order(tmp_path / "a")
    async with opened(tmp_path / "b", Slow(order, 1), "b"):
        pass
    order.trim(PARTS)
    async with opened(tmp_path / "b", MemorySequencer(order), "b") as writer:
        with pytest.raises(ConfigError, match="Start this node again: it fetches a copy"):
            await follow(writer, WaitingRoom("127.0.0.1", 0))


async def test_who_connects_and_asks_nothing_does_not_keep_the_node_from_listening(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_port, "_HEAD_S", 10 * WITHIN_S)
    with held_port() as port:
        async with asyncio.timeout(WITHIN_S):
            async with WaitingRoom("127.0.0.1", port) as room:
                await room.open()
                silent, writer = await asyncio.open_connection("127.0.0.1", port)
                assert (await ask(port, "/healthz"))[0] == 200, "it was taken before this one"
            with contextlib.suppress(ConnectionResetError):
                assert await silent.read() == b""
        writer.close()


class Service:
    """Answers 204 on the sockets that it is given. Before it does, a client connects and asks."""

    def __init__(self) -> None:
        self.serving: list[asyncio.Server] = []
        self.clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def begin(self) -> None:
        """See `Server`."""

    async def serve_on(self, sock: socket.socket) -> None:
        self.clients.append(await asyncio.open_connection(*sock.getsockname()))
        self.clients[-1][1].write(b"GET /readyz HTTP/1.1\r\n\r\n")
        self.serving.append(await asyncio.start_server(self._answer, sock=sock))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()


async def test_a_client_that_comes_while_the_service_takes_the_port_over_is_served_by_it() -> None:
    service = Service()
    with held_port() as port:
        room = WaitingRoom("127.0.0.1", port)
        await room.open()
        assert (await ask(port, "/readyz"))[0] == 503
        assert await open_port(cast("Server", service), Settings(port=port), None, room) == port
        [(reader, writer)] = service.clients
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
        writer.close()
        assert (await ask(port, "/readyz"))[0] == 204
        for one in service.serving:
            one.close()
            await one.wait_closed()


async def test_a_copy_that_a_trim_overtook_is_asked_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = await long_order(tmp_path / "a")
    async with opened(tmp_path / "old", Slow(order, 1), "old"):
        pass
    old = held_in(tmp_path / "old")
    assert old is not None
    asked: list[int] = []

    async def fetch(data: Path, *_: object) -> str:
        """Give a copy that is too old by now, then one that is not."""
        asked.append(int(str(_[-1])))
        order.trim(old.offset + 2 if len(asked) == 1 else 0)
        shutil.copytree(tmp_path / ("old" if len(asked) == 1 else "a"), data, dirs_exist_ok=True)
        return "a"

    async def living(*_: object) -> dict[str, Member]:
        return {}

    monkeypatch.setattr(nodes, "fetch_copy", fetch)
    monkeypatch.setattr(members, "living_nodes", living)
    monkeypatch.setattr(nodes, "COPY_FROM", 1)
    secrets = Keys(b"j" * 32, MASTER_KEY)
    room = WaitingRoom("127.0.0.1", 0)
    settings = Settings(data=tmp_path / "b")
    await nodes.join(settings, secrets, SystemAmbient(), MemorySequencer(order), "b", room)
    assert asked == [1, old.offset + 2]
    assert held_in(tmp_path / "b") == held_in(tmp_path / "a")
