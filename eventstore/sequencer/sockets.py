"""Connections to servers that may lose power: the system reports a silent peer within half a minute."""

import contextlib
import socket
from typing import Any

IDLE_S, PROBE_S, PROBES = 5, 3, 3
"""After 5 s of silence the system asks every 3 s, and after three questions the connection has ended."""
UNACKNOWLEDGED_MS = 14_000


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
