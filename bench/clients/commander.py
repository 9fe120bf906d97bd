"""A lean client that publishes over a number of connections, with a number of commands in flight on each.

Frames are made once for each reply that came, and replies are counted without being decoded, so that this
process needs a small part of what the server needs. Run as a child of `questions/commands.py`; it answers how
many commands were answered in the time given, and how long they took if there was one at a time. What it says
to each system is in `dialects`.
"""

import json
import selectors
import socket
import sys
import time
from typing import Any

from bench.clients import dialects
from bench.harness.answers import answer

_RECEIVE_BYTES = 1 << 18
_WARM_S = 0.3


class Connection:
    """One socket, signed in. `events`: how many each command has. `system`: whose dialect it speaks."""

    def __init__(self, port: int, token: str, number: int, events: int, system: str = "huahuo") -> None:
        self.number, self._sent = number, 0
        self.began_s = 0.0
        self.dialect = dialects.ALL[system](token, number, events)
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for sent, wanted in self.dialect.hello:
            self._say(sent, wanted)

    def send(self, count: int) -> None:
        """Send `count` more commands."""
        frames = list(map(self.dialect.command, range(self._sent, self._sent + count)))
        self._sent += count
        self.began_s = time.perf_counter()
        self.socket.sendall(b"".join(frames))

    def _say(self, sent: bytes, wanted: bytes) -> None:
        self.socket.sendall(sent)
        came = b""
        while wanted not in came:
            data = self.socket.recv(_RECEIVE_BYTES)
            assert data, "the server closed the connection"
            came += data


def measure(connections: list[Connection], in_flight: int, seconds: float) -> dict[str, Any]:
    """Publish for a while."""
    selector = selectors.DefaultSelector()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(in_flight)
    took_s: list[float] = []
    answered = refused = 0
    start_s = time.perf_counter()
    while time.perf_counter() - start_s < seconds:
        for key, _ in selector.select(0.5):
            connection = key.data
            data = connection.socket.recv(_RECEIVE_BYTES)
            assert data, "the server closed the connection"
            errors = data.count(connection.dialect.error)
            count = data.count(connection.dialect.success) + errors
            answered, refused = answered + count, refused + errors
            if in_flight == 1 and count:
                took_s.append(time.perf_counter() - connection.began_s)
            if count:
                connection.send(count)
    return {
        "answered": answered,
        "refused": refused,
        "seconds": time.perf_counter() - start_s,
        "took_s": took_s,
    }


def main() -> None:
    """The child: port, token, connections, in flight, events a command, whose dialect."""
    port, token, count, in_flight, events, system = sys.argv[1:7]
    connections = [Connection(int(port), token, n, int(events), system) for n in range(int(count))]
    measure(connections, int(in_flight), _WARM_S)
    for connection in connections:
        connection.socket.close()
    answer({})
    for line in sys.stdin:
        connections = [
            Connection(int(port), token, n + 1_000, int(events), system) for n in range(int(count))
        ]
        answer(measure(connections, int(in_flight), json.loads(line)["seconds"]))


if __name__ == "__main__":
    main()
