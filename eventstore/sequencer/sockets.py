"""Connections to servers that may lose power: the system reports a silent peer within half a minute."""

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import Any

IDLE_S, PROBE_S, PROBES = 5, 3, 3
"""After 5 s of silence the system asks every 3 s, and after three questions the connection has ended."""
UNACKNOWLEDGED_MS = 14_000
TURNS = 3
"""Of the loop, until a transport that was aborted has let go of its socket."""


def detect_dead_peer(connection: Any) -> None:
    """Let the system end `connection` if its peer is gone. Nothing for what is no TCP socket."""
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", IDLE_S),
        ("TCP_KEEPINTVL", PROBE_S),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS),
    ):
        if (option := getattr(socket, name, None)) is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def let_go(transports: Iterable[asyncio.WriteTransport]) -> None:
    """Close those of sockets at once, whatever waits in them; one that is closed already is left alone."""
    for transport in transports:
        if not transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()
    for _ in range(TURNS):
        await asyncio.sleep(0)
