"""Addresses of names that users choose, asked of a real DNS server that never answers."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from huahuo.actors.plugins.resolver import Names
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.mailcheck.servers.network import Network
from huahuo.webhooks.deliveries import Posting


@contextmanager
def silent_dns() -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        yield server, f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def no_thread_free() -> Iterator[None]:
    """As if others looked up names that nobody answers for, on the threads that all share."""
    end = threading.Event()
    threads = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(threads)
    threads.submit(end.wait)
    try:
        yield
    finally:
        end.set()
        threads.shutdown()


async def test_names_that_nobody_answers_for_delay_neither_webhooks_nor_mail_checks_of_others() -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    receiver = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = receiver.sockets[0].getsockname()[1]
    with silent_dns() as (server, address), no_thread_free():
        names = Names([address])
        posting = Posting(SystemAmbient(), allow_private=True, resolver=names)
        network = Network(allow_private=True, resolver=names)
        async with receiver, asyncio.timeout(5), asyncio.TaskGroup() as hanging:
            tasks = [hanging.create_task(posting.post(f"http://{n}.example/", [], b"{}")) for n in range(64)]
            await asyncio.sleep(0)
            assert await posting.post(f"http://localhost:{port}/", [], b"{}") == 204
            name, found = await network.addresses("localhost", 993, 1.0)
            assert (name, "127.0.0.1" in found) == ("localhost", True)
            assert server.recv(512)
            assert not any(task.done() for task in tasks)
            for task in tasks:
                task.cancel()
