"""A lean client that publishes over a number of connections, with a number of commands in flight on each.

Frames are made once for each reply that came, and replies are counted without being decoded, so that this
process needs a small part of what the server needs. Run as a child of `questions/commands.py`; it answers how
many commands were answered in the time given, and how long they took if there was one at a time.
"""

import json
import selectors
import socket
import sys
import time
from typing import Any

from bench.clients.script import text, upgrade
from bench.harness.answers import answer

_SUCCESS = b'"type":"success"'
_ERROR = b'"type":"error"'
_RECEIVE_BYTES = 1 << 18
_WARM_S = 0.3


class Connection:
    """One socket, signed in. `events`: how many events each command has."""

    def __init__(self, port: int, token: str, number: int, events: int) -> None:
        self.number, self._sent = number, 0
        self.began_s = 0.0
        rest = ',"stream":"group/bench","type":"tick","body":"%s"}' % ("x" * 110)
        if events > 1:
            one = {"stream": "group/bench", "type": "tick", "fields": {"body": "x" * 110}}
            rest = ',"events":{}}}'.format(json.dumps([one] * events, separators=(",", ":")))
        self._rest = rest.encode()
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._say(upgrade(subprotocol="huahuo.v1")[0], b"\r\n\r\n")
        hello = {"action": "authenticate", "token": token, "window": 4096, "client": f"bench-{number}"}
        self._say(text(json.dumps(hello).encode()), b'"success":true')

    def send(self, count: int) -> None:
        """Send `count` more commands."""
        numbers = range(self._sent, self._sent + count)
        frames = [text(b'{"action":"publish","id":"%d"%b' % (number, self._rest)) for number in numbers]
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
            errors = data.count(_ERROR)
            count = data.count(_SUCCESS) + errors
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
    """The child: port, token, connections, in flight, events a command."""
    port, token, count, in_flight, events = sys.argv[1:6]
    connections = [Connection(int(port), token, n, int(events)) for n in range(int(count))]
    measure(connections, int(in_flight), _WARM_S)
    for connection in connections:
        connection.socket.close()
    answer({})
    for line in sys.stdin:
        connections = [Connection(int(port), token, n + 1_000, int(events)) for n in range(int(count))]
        answer(measure(connections, int(in_flight), json.loads(line)["seconds"]))


if __name__ == "__main__":
    main()
