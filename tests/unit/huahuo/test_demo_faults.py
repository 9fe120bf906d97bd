"""The demo of a cluster: processes that are killed, frozen and healed, and the balancer before them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from huahuo.demo.balancer import Balancer
from huahuo.demo.cluster import Child, Switchboard, Wanted, ask
from tests.support.patience import WITHIN_S

SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")


@asynccontextmanager
async def one_process(folder: Path) -> AsyncIterator[str]:
    """The socket of a switchboard with the process `one`."""
    child = Child("one", "node", SLEEPS, {}, folder / "log", lambda: 7)
    await child.start()
    path = folder / "s"
    try:
        async with Switchboard(path, [child]):
            yield str(path)
    finally:
        await child.stop()


async def until_state(path: str, state: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while (await ask(path, Wanted())).facts[0].state != state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_process_is_frozen_killed_and_healed_again(tmp_path: Path) -> None:
    async with one_process(tmp_path) as path:
        for fault, state in (("freeze", "frozen"), ("heal", "up"), ("kill", "killed"), ("heal", "up")):
            assert (await ask(path, Wanted("one", fault))).known  # type: ignore[arg-type]
            await until_state(path, state)
        [fact] = (await ask(path, Wanted())).facts
        assert (fact.last, fact.last_ms) == ("heal", 7)


class Node:
    """Answers probes and echoes lines, unless it hangs."""

    def __init__(self) -> None:
        self.hangs = False

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if not self.hangs:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if line.startswith(b"GET") else line)
        await reader.read()
        writer.close()


async def test_a_connection_goes_to_a_node_that_is_ready_and_is_cut_when_that_hangs() -> None:
    node, other = Node(), Node()
    async with (
        asyncio.timeout(WITHIN_S),
        node as url,
        other as other_url,
        Balancer([url, other_url]) as balancer,
    ):
        first, second = balancer.targets
        other.hangs = True
        while not (first.ready and not second.lives):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        node.hangs, other.hangs = True, False
        assert await reader.read() == b""
        writer.close()
        while not (second.ready and not first.lives):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
        writer.write(b"again\n")
        assert await reader.readline() == b"again\n"
        writer.close()
