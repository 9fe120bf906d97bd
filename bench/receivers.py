"""The receiving side: many WebSocket connections in a process of its own (`receiver.c`), too cheap to count.

`Script` is what it has to send and to wait for, connection by connection, as one file. Everything particular
to a server (handshake, sign-in, subscription, ack) is bytes in it, so that the receiver knows WebSocket
frames and the mark of an event and nothing else. `Report` is what it counts, in a file that both sides map:
read while the receiver runs, at no cost to it.
"""

import contextlib
import mmap
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.processes import build as compiled
from bench.processes import cpu_s, raise_files_max

SOURCE = Path(__file__).with_name("receiver.c")
TOOLS = Path(".tools/bench").resolve()
FIELDS = ("ready", "closed", "events", "lost", "doubled", "bytes", "frames", "lowest", "last_ns", "done")
SUB_BITS = 5
BUCKETS = 64 << SUB_BITS
"""Latencies in buckets of about 3 %: 32 to each power of two, in microseconds."""
_POLL_S = 0.002

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
        """Make the file that the receiver reads."""
        parts = [
            struct.pack("=IIIII", self.port, self.ack_every, self.engine_io, self.goal, len(self.clients))
        ]
        for client in self.clients:
            parts += [_u32(client.last), _piece(client.ack_prefix), _u32(len(client.steps))]
            for send, expect in client.steps:
                parts += [_piece(send), _piece(expect)]
        path.write_bytes(b"".join(parts))


def _u32(number: int) -> bytes:
    return struct.pack("=I", number)


def _piece(data: bytes) -> bytes:
    return _u32(len(data)) + data


def bucket_us(number: int) -> int:
    """The smallest latency of a bucket."""
    top, sub = number >> SUB_BITS, number & ((1 << SUB_BITS) - 1)
    return ((1 << SUB_BITS) | sub) << (top - 1) if top else sub


@dataclass(frozen=True)
class Counts:
    """A receiver's figures at one moment. `a - b` is what came between two of them."""

    values: tuple[int, ...]
    buckets: tuple[int, ...]

    def __getattr__(self, name: str) -> int:
        try:
            return self.values[FIELDS.index(name)]
        except ValueError:
            raise AttributeError(name) from None

    def __sub__(self, before: "Counts") -> "Counts":
        return Counts(
            tuple(a - b for a, b in zip(self.values, before.values, strict=True)),
            tuple(a - b for a, b in zip(self.buckets, before.buckets, strict=True)),
        )

    def quantile_ms(self, share: float) -> float:
        """The latency from publication to receipt that `share` of the events did not exceed."""
        total = sum(self.buckets)
        if not total:
            return float("nan")
        seen = 0
        for number, count in enumerate(self.buckets):
            seen += count
            if seen >= share * total:
                return bucket_us(number + 1) / 1000
        return float("inf")


class Report:
    """The mapped file."""

    def __init__(self, path: Path, connections: int) -> None:
        self._head = struct.Struct(f"={len(FIELDS)}Q")
        self._buckets = struct.Struct(f"={BUCKETS}Q")
        self._last = struct.Struct(f"={connections}Q")
        size = self._head.size + self._buckets.size + self._last.size
        with path.open("w+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)

    def counts(self) -> Counts:
        """Everything but the connections' own numbers."""
        return Counts(
            self._head.unpack_from(self._map), self._buckets.unpack_from(self._map, self._head.size)
        )

    def value(self, name: str) -> int:
        """One field."""
        at = 8 * FIELDS.index(name)
        return int.from_bytes(self._map[at : at + 8], "little")

    def last(self) -> tuple[int, ...]:
        """The last number of each connection."""
        return self._last.unpack_from(self._map, self._head.size + self._buckets.size)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()


def build() -> Path:
    """The receiver's program. Raises OSError where no C compiler for Linux is."""
    program = compiled(SOURCE, TOOLS)
    if program is None:
        raise OSError("the receiver is a C program for Linux: install a C compiler (Debian: gcc)")
    return program


class Receivers:
    """One receiver process. Use as a context manager: on leaving, all its connections are gone."""

    def __init__(self, script: Script, folder: Path, program: Path) -> None:
        self.size = len(script.clients)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".script", delete=False) as file:
            path = Path(file.name)
        script.write(path)
        report = path.with_suffix(".report")
        self.report = Report(report, self.size)
        self.value, self.counts = self.report.value, self.report.counts
        self._process = subprocess.Popen(
            [program, path, report],
            stdin=subprocess.PIPE,
            preexec_fn=raise_files_max,  # noqa: PLW1509  no threads yet
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")
            self._process.stdin.close()
        self._process.wait(20)
        self.report.close()

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        return cpu_s([self._process.pid])

    def until(self, field: str, at_least: int, timeout_s: float) -> bool:
        """Wait until a figure has grown so far; False if it did not in time."""
        deadline_s = time.monotonic() + timeout_s
        while self.value(field) < at_least:
            if time.monotonic() > deadline_s or self._process.poll() is not None:
                return False
            time.sleep(_POLL_S)
        return True

    def ready(self, timeout_s: float = 60) -> None:
        """Wait until every connection is open.

        Raises:
            TimeoutError: some are not.
        """
        if not self.until("ready", self.size, timeout_s):
            raise TimeoutError(
                f"{self.value('ready')} of {self.size} connections ready, {self.value('closed')} closed"
            )
