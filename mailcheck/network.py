"""The way to a mail server's socket: resolve once, check each address, connect to the checked address."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

type Resolver = Callable[[str, int], Awaitable[list[str]]]
"""Gives the addresses of a host as texts, best first. Raises OSError when there are none."""


async def system_resolver(host: str, port: int) -> list[str]:
    """The running loop's own resolver (the machine's, or a simulated world's)."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a check may use of the network. `ports` bind only as long as `allow_private` is False."""

    allow_private: bool = False
    ports: frozenset[int] = frozenset({993, 143})
    resolver: Resolver = system_resolver
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
