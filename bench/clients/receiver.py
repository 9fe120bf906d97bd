"""The receiver of `receiver.c` in Python, where no compiler is: the same file in, the same figures out.

    python -m bench.clients.receiver SCRIPT REPORT deaf=N

It needs some 30 times the work for an event; the harness says when it was the limit.
"""

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.clients.report import BUCKETS, FIELDS, Report, bucket_of
from bench.clients.script import Client, Script, Step, text
from huahuo.app import loops

_MARK = re.compile(rb'~":(\d+),"t":(\d+),')
_MARK_BYTES = 64
_WRITE_S = 0.005
_ACK_S = 0.25
_CONNECTING_MAX = 64
_PING, _PONG = 9, 0x8A


class Counter:
    """All figures of this process."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.values = dict.fromkeys(FIELDS, 0)
        self.buckets = [0] * BUCKETS
        self.last = [client.last for client in script.clients]

    def event(self, index: int, number: int, at_ns: int, now_ns: int) -> None:
        """One event came."""
        values, last = self.values, self.last[index]
        values["events"] += 1
        if number > last:
            values["lost"] += number - last - 1
            self.last[index] = number
            values["done"] += number == self.script.goal
        else:
            values["doubled"] += 1
        values["first_ns"] = values["first_ns"] or now_ns
        values["last_ns"] = now_ns
        if at_ns:
            self.buckets[bucket_of(max(0, now_ns - at_ns) // 1000)] += 1


class Connection:
    """One connection: its setup, then whatever comes."""

    def __init__(self, index: int, client: Client, counter: Counter) -> None:
        self._index = index
        self._client = client
        self._counter = counter
        self._acked = client.last
        self._rest = b""
        self._seen: bytes | None = b""

    async def run(self, gate: asyncio.Semaphore, *, deaf: bool) -> None:
        """Until the server hangs up."""
        script, steps = self._counter.script, iter(self._client.steps)
        await gate.acquire()
        reader, self._writer = await asyncio.open_connection("127.0.0.1", script.port, limit=1 << 22)
        send, expect = next(steps)
        self._writer.write(send)
        head = await reader.readuntil(expect)
        assert b" 101 " in head.partition(b"\r\n")[0], head
        waiting = self._next(steps)
        if waiting is None:
            gate.release()
        while True:
            first, mark = await reader.readexactly(2)
            size = mark & 127
            if size >= 126:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
            payload = await reader.readexactly(size)
            self._counter.values["frames"] += 1
            self._counter.values["bytes"] += size + 2
            self._frame(first & 15, payload)
            if waiting is not None and self._seen is not None:
                self._seen += payload
                if waiting in self._seen:
                    waiting = self._next(steps)
                    if waiting is None:
                        gate.release()
                        if deaf:
                            await asyncio.Event().wait()

    def ack(self, *, at_least: int = 1) -> None:
        """Ack what came, if it is enough."""
        last = self._counter.last[self._index]
        if self._counter.script.ack_every and self._seen is None and last >= self._acked + at_least:
            self._acked = last
            self._writer.write(text(self._client.ack_prefix + b"%d}}" % last))

    def _next(self, steps: Iterator[Step]) -> bytes | None:
        step = next(steps, None)
        if step is None:
            self._seen = None
            self._counter.values["ready"] += 1
            return None
        self._seen = b""
        self._writer.write(step[0])
        return step[1]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._writer.write(bytes((_PONG, 0x80 | len(payload))) + bytes(4) + payload)
        elif opcode < _PING:
            if self._counter.script.engine_io and payload == b"2":
                self._writer.write(text(b"3"))
                return
            now_ns = time.monotonic_ns()
            data = self._rest + payload
            end = 0
            for found in _MARK.finditer(data):
                self._counter.event(self._index, int(found[1]), int(found[2]), now_ns)
                end = found.end()
            self._rest = data[max(end, len(data) - _MARK_BYTES) :]
            self.ack(at_least=self._counter.script.ack_every)


async def receive(script: Script, report: Report, deaf: int) -> None:
    """Hold all connections until a line comes on stdin."""
    counter = Counter(script)
    gate = asyncio.Semaphore(_CONNECTING_MAX)
    connections = [Connection(index, client, counter) for index, client in enumerate(script.clients)]

    async def hold(index: int, connection: Connection) -> None:
        try:
            await connection.run(gate, deaf=index < deaf)
        except (OSError, asyncio.IncompleteReadError):
            counter.values["closed"] += 1

    holding = [asyncio.ensure_future(hold(i, c)) for i, c in enumerate(connections)]
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    acked_s = time.monotonic()
    while not ended.done():
        await asyncio.sleep(_WRITE_S)
        counter.values["lowest"] = min(counter.last[deaf:], default=0)
        report.set(list(counter.values.values()), counter.buckets, counter.last)
        if time.monotonic() > acked_s + _ACK_S:
            acked_s = time.monotonic()
            for connection in connections:
                connection.ack()
    for task in holding:
        task.cancel()


def main() -> None:
    """See the module."""
    script = Script.read(Path(sys.argv[1]))
    report = Report(Path(sys.argv[2]), len(script.clients))
    loops.run(receive(script, report, int(sys.argv[3].removeprefix("deaf="))))


if __name__ == "__main__":
    main()
