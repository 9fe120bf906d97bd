"""uvloop without the threads of libuv, so that a process that was forked from a service can exit.

libuv looks up names on threads of its own, also for an address that is a number. At its exit a process joins
them. A fork has not copied them, so the exit of a forked process crashes. Here the lookups run on Python's
threads, which a forked process forgets.
"""

import socket
from typing import Any, override

import uvloop

from huahuo.app.shared_port import bound


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
        """See asyncio. A host with several addresses is left to uvloop."""
        if isinstance(host, str) and how.get("sock") is None:
            found = await self._addresses(host, port, flags=socket.AI_PASSIVE)
            if len(found) == 1:
                ((family, address),) = found
                how["sock"] = bound(family, address, shared=bool(how.pop("reuse_port", False)))
                how.pop("family", None)
                host = port = None
        return await super().create_server(protocol_factory, host, port, **how)

    @override
    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **how: Any
    ) -> Any:
        """See asyncio. The addresses of a name are tried one after the other."""
        if not isinstance(host, str) or how.get("sock") is not None:
            return await super().create_connection(protocol_factory, host, port, **how)
        if how.get("ssl") and how.get("server_hostname") is None:
            how["server_hostname"] = host
        failed: list[OSError] = []
        for _family, address in await self._addresses(host, port, family=how.pop("family", 0)):
            try:
                return await super().create_connection(protocol_factory, address[0], address[1], **how)
            except OSError as error:
                failed.append(error)
        raise failed[-1] if failed else OSError(f"{host} has no address")

    async def _addresses(self, host: str, port: Any, **how: Any) -> list[tuple[int, tuple[Any, ...]]]:
        how["type"] = socket.SOCK_STREAM
        try:  # a number needs no thread
            flags = how.get("flags", 0) | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            found = socket.getaddrinfo(host or None, port, **{**how, "flags": flags})
        except socket.gaierror:
            found = await self.getaddrinfo(host or None, port, **how)
        return [(family, address) for family, _, _, _, address in dict.fromkeys(found)]
