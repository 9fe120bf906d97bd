"""What a receiver has to send and to wait for, connection by connection, as one file.

Everything particular to a server (handshake, sign-in, subscription, ack) is bytes made here, so that
the receivers themselves know WebSocket frames and the mark of an event and nothing else.
"""

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

type Step = tuple[bytes, bytes]
"""What to send, and what must come before the next step (or before the connection counts as ready)."""


@dataclass(frozen=True)
class Client:
    """One connection: the first step is its HTTP upgrade."""

    steps: Sequence[Step]
    ack_prefix: bytes = b""
    """The text of an ack up to the number; two braces close it."""
    last: int = 0
    """The number of the last event it has seen before."""


@dataclass(frozen=True)
class Script:
    """All connections of one receiver process."""

    port: int
    clients: Sequence[Client] = field(repr=False)
    ack_every: int = 0
    engine_io: bool = False
    """Answer Engine.IO's heartbeat (`2`) with `3`."""
    goal: int = 0
    """The number that makes a connection done; 0 where none is expected."""

    def write(self, path: Path) -> None:
        """Make the file that receivers read."""
        parts = [
            struct.pack("=IIIII", self.port, self.ack_every, self.engine_io, self.goal, len(self.clients))
        ]
        for client in self.clients:
            parts += [_u32(client.last), _piece(client.ack_prefix), _u32(len(client.steps))]
            for send, expect in client.steps:
                parts += [_piece(send), _piece(expect)]
        path.write_bytes(b"".join(parts))

    @classmethod
    def read(cls, path: Path) -> "Script":
        """The inverse, for the receiver in Python."""
        data = memoryview(path.read_bytes())
        at = 0

        def u32() -> int:
            nonlocal at
            at += 4
            return int.from_bytes(data[at - 4 : at], sys.byteorder)

        def piece() -> bytes:
            nonlocal at
            size = u32()
            at += size
            return bytes(data[at - size : at])

        port, ack_every, engine_io, goal, count = (u32() for _ in range(5))
        clients = []
        for _ in range(count):
            last, ack_prefix = u32(), piece()
            steps = [(piece(), piece()) for _ in range(u32())]
            clients.append(Client(steps, ack_prefix, last))
        return cls(port, clients, ack_every, bool(engine_io), goal)


def upgrade(path: str = "/", *, subprotocol: str = "") -> Step:
    """The HTTP request that opens a WebSocket, without compression."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode(), b"\r\n\r\n"


def text(payload: bytes) -> bytes:
    """A client's text frame, masked with zeros."""
    return _frame(0x81, payload)


def binary(payload: bytes) -> bytes:
    """A client's binary frame, masked with zeros."""
    return _frame(0x82, payload)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


def _u32(number: int) -> bytes:
    return struct.pack("=I", number)


def _piece(data: bytes) -> bytes:
    return _u32(len(data)) + data
