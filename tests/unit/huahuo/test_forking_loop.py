"""uvloop with lookups of its own: a name with several addresses is served at each and tried one by one."""

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any, override

import pytest
import trustme

from huahuo.app.forking_loop import ForkingLoop

NAME = "several.example"


class Known(ForkingLoop):
    """A loop that knows the addresses of one name."""

    def __init__(self, *addresses: str) -> None:
        self._of_the_name = addresses

    @override
    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> Any:
        found = [await super(Known, self).getaddrinfo(one, port, **how) for one in self._of_the_name]
        return [one for of_one in found for one in of_one]


def run(work: Coroutine[Any, Any, None], *addresses: str) -> None:
    """Run `work` on a loop on which the name has these addresses."""
    with asyncio.Runner(loop_factory=lambda: Known(*addresses)) as runner:
        runner.run(work)


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def test_a_name_with_several_addresses_is_served_at_each_at_one_port() -> None:
    async def work() -> None:
        server = await asyncio.start_server(hang_up, NAME, 0)
        places = [sock.getsockname() for sock in server.sockets]
        assert [host for host, _ in places] == ["127.0.0.1", "127.0.0.2"]
        assert len({port for _, port in places}) == 1
        for host, port in places:
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
        server.close()
        await server.wait_closed()
        for host, port in places:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(host, port)

    run(work(), "127.0.0.1", "127.0.0.2")


def test_a_port_that_is_taken_at_one_address_is_an_error_and_leaves_the_others_free() -> None:
    async def work() -> None:
        async with await asyncio.start_server(hang_up, "127.0.0.2", 0) as taken:
            port = taken.sockets[0].getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                await asyncio.start_server(hang_up, NAME, port)
            async with await asyncio.start_server(hang_up, "127.0.0.1", port):
                pass

    run(work(), "127.0.0.1", "127.0.0.2")


def test_an_address_with_a_certificate_that_is_not_trusted_is_the_last_one_tried() -> None:
    authority, ours = trustme.CA(), ssl.create_default_context()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(NAME).configure_cert(serving)

    async def work() -> None:
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=serving) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(NAME, server.sockets[0].getsockname()[1], ssl=ours)

    run(work(), "127.0.0.1", "127.0.0.2")
