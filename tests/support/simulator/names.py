"""The names of a simulated network, as the service resolves them there."""

import asyncio
import socket


async def simulated_names(host: str, port: int) -> list[str]:
    """A `Resolver` of the running simulation."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
