"""uvloop without the threads of libuv, so that a process that was forked from a service can exit.

libuv looks up names on threads of its own, also for an address that is a number. At its exit a process joins
them. A fork has not copied them, so the exit of a forked process crashes. Here the lookups run on Python's
threads, which a forked process forgets.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any, override

import uvloop

from huahuo.app.service_port import bound_all


class ForkingLoop(uvloop.Loop):
    """See the module. `create_server` and `create_connection` give uvloop sockets and numbers, not names."""

    @override
    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> Any:
        """See asyncio."""
        return await self.run_in_executor(None, lambda: socket.getaddrinfo(host, port, **how))

    @override
    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **how: Any
    ) -> Any:
        """See asyncio. A host with several addresses gets a server for each, all on one port."""
        if not isinstance(host, str) or how.get("sock") is not None:
            return await super().create_server(protocol_factory, host, port, **how)
        found = await self._addresses(host, port, family=how.pop("family", 0), flags=socket.AI_PASSIVE)
        sockets = bound_all(found, shared=bool(how.pop("reuse_port", False)))
        made: list[Any] = []
        try:
            made += [
                await super(ForkingLoop, self).create_server(protocol_factory, sock=sock, **how)
                for sock in sockets
            ]
        except BaseException:
            for one in (*made, *sockets):
                one.close()
            raise
        return made[0] if len(made) == 1 else _Servers(made)

    @override
    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **how: Any
    ) -> Any:
        """See asyncio. The addresses of a name are tried one after the other until one accepts.

        Raises:
            ssl.SSLError: an address accepts, but not with TLS that is trusted here. No other is tried then.
            OSError: no address accepts; it is the error of the first one.
        """
        if not isinstance(host, str) or how.get("sock") is not None:
            return await super().create_connection(protocol_factory, host, port, **how)
        if how.get("ssl") and how.get("server_hostname") is None:
            how["server_hostname"] = host
        failed: list[OSError] = []
        for _family, address in await self._addresses(host, port, family=how.pop("family", 0)):
            try:
                return await super().create_connection(protocol_factory, address[0], address[1], **how)
            except ssl.SSLError:
                raise
            except OSError as error:
                failed.append(error)
        raise failed[0] if failed else OSError(f"{host} has no address")

    async def _addresses(self, host: str, port: Any, **how: Any) -> list[tuple[int, tuple[Any, ...]]]:
        how["type"] = socket.SOCK_STREAM
        try:  # a number needs no thread
            flags = how.get("flags", 0) | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            found = socket.getaddrinfo(host or None, port, **{**how, "flags": flags})
        except socket.gaierror:
            found = await self.getaddrinfo(host or None, port, **how)
        return [(family, address) for family, _, _, _, address in dict.fromkeys(found)]


class _Servers(asyncio.AbstractServer):
    """Servers at several addresses as one."""

    def __init__(self, servers: Sequence[asyncio.Server]) -> None:
        self._servers = servers

    @property
    def sockets(self) -> tuple[Any, ...]:
        """See asyncio."""
        return tuple(sock for server in self._servers for sock in server.sockets)

    @override
    def get_loop(self) -> asyncio.AbstractEventLoop:
        """See asyncio."""
        return self._servers[0].get_loop()

    @override
    async def start_serving(self) -> None:
        """See asyncio."""
        for server in self._servers:
            await server.start_serving()

    @override
    async def serve_forever(self) -> None:
        """See asyncio."""
        await asyncio.gather(*(server.serve_forever() for server in self._servers))

    @override
    def is_serving(self) -> bool:
        """See asyncio."""
        return any(server.is_serving() for server in self._servers)

    @override
    def close(self) -> None:
        """See asyncio."""
        for server in self._servers:
            server.close()

    @override
    async def wait_closed(self) -> None:
        """See asyncio."""
        for server in self._servers:
            await server.wait_closed()
