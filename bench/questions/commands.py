"""How fast does a command come back, from the socket to the disk and back, and how many at once?

The guess before the first run: one at a time within 2× of a bare SQLite commit of the same size on the same
disk; 20,000 a second at 50 µs of the server's processor time each, and 100,000 events a second by 100 a
command.

`publish` with its id through the real service over loopback WebSockets, from a lean client: frames are made
once for each reply that came, and replies are counted without being decoded, so that it needs a small part of
what the server needs. In the first sheet it waits for each reply, in turns with a bare commit: one INSERT
with `synchronous=FULL` in WAL mode. In the second one it is a process of its own.
"""

import json
import selectors
import socket
import sqlite3
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench.peers import Huahuo
from bench.processes import Child, answer
from bench.sheets import OURS, Metric, Options, Sheet, interleaved
from bench.sockets import frame, upgrade

BODY = "x" * 110
CASES = {
    "1 connection, 256 in flight": (1, 256, 1),
    "8 connections, 64 in flight each": (8, 64, 1),
    "64 connections, 8 in flight each": (64, 8, 1),
    "8 connections, 8 in flight each, 100 events a command": (8, 8, 100),
}
"""Connections, commands in flight on each, events of a command."""
LONE_METRICS = (Metric("p50", "ms, one at a time", higher_is_better=False, compare=True),)
METRICS = (
    Metric("commands", "1/s, durable and answered", compare=True),
    Metric("events", "1/s"),
    Metric("cpu", "server µs/command", higher_is_better=False),
    Metric("refused", higher_is_better=False),
)
_ANSWER_S = 60.0
_RECEIVE_BYTES = 1 << 18
_WARM_S = 0.3


class Connection:
    """One socket, signed in. `events`: how many each command has."""

    def __init__(self, port: int, token: str, number: int, events: int) -> None:
        self._sent = 0
        self._rest = f',"stream":"group/bench","type":"tick","body":"{BODY}"}}'.encode()
        if events > 1:
            one = {"stream": "group/bench", "type": "tick", "fields": {"body": BODY}}
            self._rest = b',"events":%b}' % json.dumps([one] * events, separators=(",", ":")).encode()
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = {"action": "authenticate", "token": token, "window": 4096, "client": f"bench-{number}"}
        self._say(*upgrade(subprotocol="huahuo.v1"))
        self._say(frame(json.dumps(hello).encode()), b'"success":true')

    def send(self, count: int) -> None:
        """Send `count` more commands."""
        numbers = range(self._sent, self._sent + count)
        self._sent += count
        self.socket.sendall(
            b"".join(frame(b'{"action":"publish","id":"%d"%b' % (n, self._rest)) for n in numbers)
        )

    def replies(self) -> tuple[int, int]:
        """Wait for some bytes: how many commands they answer, and how many of them are refused."""
        data = self.socket.recv(_RECEIVE_BYTES)
        assert data, "the server closed the connection"
        errors = data.count(b'"type":"error"')
        return data.count(b'"type":"success"') + errors, errors

    def _say(self, sent: bytes, wanted: bytes) -> None:
        self.socket.sendall(sent)
        came = b""
        while wanted not in came:
            data = self.socket.recv(_RECEIVE_BYTES)
            assert data, "the server closed the connection"
            came += data


def lone(sheet: Sheet, folder: Path, count: int) -> None:
    """One round of commands one at a time and bare commits, in turns."""
    database = sqlite3.connect(folder / "bare.db", isolation_level=None)
    for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("CREATE TABLE event (position INTEGER PRIMARY KEY, body BLOB) STRICT")
    bare_s, commands_s = [], []
    peer = Huahuo()
    with peer.start(folder) as running:
        connection = Connection(running.port, peer.token(1, admin=True), 0, 1)
        for turn in range(count + 1):
            began_s = time.perf_counter()
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO event (body) VALUES (?)", (BODY.encode(),))
            database.execute("COMMIT")
            bare_s.append(time.perf_counter() - began_s)
            began_s = time.perf_counter()
            connection.send(1)
            while connection.replies() != (1, 0):
                pass
            if turn:  # the first one makes the stream
                commands_s.append(time.perf_counter() - began_s)
        connection.socket.close()
    database.close()
    sheet.add(OURS, p50=statistics.median(commands_s) * 1000)
    sheet.add("a bare commit", p50=statistics.median(bare_s) * 1000)


def many(case: str, sheet: Sheet, folder: Path, seconds: float) -> None:
    """One round of one case."""
    peer = Huahuo()
    with peer.start(folder) as running:
        given = map(str, (running.port, peer.token(1, admin=True), *CASES[case]))
        with Child([sys.executable, "-m", "bench.questions.commands", *given]) as child:
            cpu_s = running.cpu_s()
            done = child.ask(_ANSWER_S, seconds=seconds)
            cpu_s = running.cpu_s() - cpu_s
    per_s = done["answered"] / done["seconds"]
    cpu = cpu_s / max(1, done["answered"]) * 1e6
    sheet.add(case, commands=per_s, events=per_s * CASES[case][2], cpu=cpu, refused=done["refused"])


def run(options: Options) -> list[Sheet]:
    """See the module."""
    single = Sheet("publish over one connection, one at a time", LONE_METRICS)
    flooded = Sheet("publish with ids by a lean client", METRICS)
    count, seconds = (20, 0.2) if options.quick else (200, 3.0)
    interleaved([OURS], options, lambda _, folder: lone(single, folder, count), [single])
    interleaved(CASES, options, lambda case, folder: many(case, flooded, folder, seconds), [flooded])
    return [single, flooded]


def flood(connections: list[Connection], in_flight: int, seconds: float) -> dict[str, Any]:
    """Publish for a while."""
    selector = selectors.DefaultSelector()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(in_flight)
    answered = refused = 0
    start_s = time.perf_counter()
    while time.perf_counter() - start_s < seconds:
        for key, _ in selector.select(0.5):
            count, errors = key.data.replies()
            answered, refused = answered + count, refused + errors
            if count:
                key.data.send(count)
    return {"answered": answered, "refused": refused, "seconds": time.perf_counter() - start_s}


def main() -> None:
    """The child: port, token, connections, in flight, events a command."""
    port, token, count, in_flight, events = sys.argv[1:]

    def connected(first: int) -> list[Connection]:
        return [Connection(int(port), token, first + n, int(events)) for n in range(int(count))]

    warm = connected(0)
    flood(warm, int(in_flight), _WARM_S)
    for connection in warm:
        connection.socket.close()
    answer({})
    for line in sys.stdin:
        answer(flood(connected(1_000), int(in_flight), json.loads(line)["seconds"]))


if __name__ == "__main__":
    main()
