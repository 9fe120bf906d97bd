"""Random calls of a build of the part in C: `native_fuzz MODULE SEED CALLS`.

A sanitizer ends it with an error. Arguments are mostly right, some are of the wrong type or length, and some
sockets are full. Whatever was received must be what the calls said was written. What was read of sockets with
acks, as numbers or as bytes, must be what was sent.
"""

import contextlib
import importlib.machinery
import importlib.util
import random
import socket
import sys
from typing import Any

SOCKETS = 64
FRAME_BYTES_MAX = 300_000
READ_BYTES_MAX = 1 << 17
"""More would be mapped and unmapped for each read."""


def load(path: str) -> Any:
    loader = importlib.machinery.ExtensionFileLoader("_sends", path)
    spec = importlib.util.spec_from_loader("_sends", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class Fuzz:
    """Sockets, and what each must have received."""

    def __init__(self, module: Any, seed: int) -> None:
        self.module = module
        self.chance = random.Random(seed)
        self.stock = self.chance.randbytes(2 * FRAME_BYTES_MAX)
        self.pairs = [socket.socketpair() for _ in range(SOCKETS)]
        self.due = [bytearray() for _ in self.pairs]
        for pair in self.pairs:
            for end in pair:
                end.setblocking(False)

    def frame(self, size: int) -> bytes:
        """A part of the same random bytes: to make new ones takes most of the time."""
        begin = self.chance.randrange(FRAME_BYTES_MAX)
        return self.stock[begin : begin + size]

    def call(self) -> None:
        chosen = self.chance.sample(range(SOCKETS), self.chance.randint(0, SOCKETS))
        frames = [self.frame(self.chance.choice((0, 1, 90, 3_000, FRAME_BYTES_MAX))) for _ in chosen]
        descriptors = [self.pairs[at][0].fileno() for at in chosen]
        short = dict(self.module.send_each(descriptors, frames))
        for place, at in enumerate(chosen):
            written = max(0, short.get(place, len(frames[place])))
            self.due[at] += frames[place][:written]

    def call_wrongly(self) -> None:
        values: list[Any] = [
            None,
            -1,
            1 << 33,
            1 << 70,
            b"a",
            "a",
            bytearray(b"a"),
            object(),
            1.5,
        ]
        lists: list[Any] = [
            [self.chance.choice(values) for _ in range(self.chance.randint(0, 5))],
            tuple(values),
            self.chance.choice(values),
            iter([b"a", 7]),
        ]
        given = [self.chance.choice(lists), self.chance.choice(lists)]
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            self.module.send_each(*given[: self.chance.randint(0, 3)])

    def read(self, at: int, size: int) -> None:
        with contextlib.suppress(BlockingIOError):
            data = self.pairs[at][1].recv(size)
            assert data == self.due[at][: len(data)]
            del self.due[at][: len(data)]

    def run(self, calls: int) -> None:
        for _ in range(calls):
            if self.chance.random() < 0.2:
                self.call_wrongly()
            else:
                self.call()
            for at in range(SOCKETS):
                if self.chance.random() < 0.5:
                    self.read(at, self.chance.choice((1, 1_000, READ_BYTES_MAX)))
        for at in range(SOCKETS):
            while self.due[at]:
                self.read(at, READ_BYTES_MAX)


class AcksFuzz:
    """Sockets that are read many at once, and what was sent to each and not read yet."""

    def __init__(self, module: Any, seed: int) -> None:
        self.module = module
        self.chance = random.Random(seed)
        self.reader, _ = module.open_acks()
        self.pairs = [socket.socketpair() for _ in range(SOCKETS)]
        self.fronts = [b""] * SOCKETS
        self.due = [bytearray() for _ in self.pairs]
        self.ended: set[int] = set()

    def frame(self, front: bytes, seq: int) -> bytes:
        """An ack with a mask of zeros."""
        text = front + b"%d}}" % seq
        return b"\x81" + bytes((0x80 | len(text),)) + b"\0\0\0\0" + text

    def turn(self, at: int) -> None:
        """Watch a socket, or watch it no more; one whose peer has ended is replaced."""
        if not self.fronts[at]:
            self.fronts[at] = self.chance.choice(
                (b"{ack", b"x" * 107, self.chance.randbytes(self.chance.randint(4, 107)))
            )
            self.module.watch_acks(self.reader, at, self.pairs[at][0].fileno(), self.fronts[at])
            return
        self.module.watch_acks(self.reader, at)
        self.fronts[at] = b""
        if at in self.ended:
            self.ended.discard(at)
            for end in self.pairs[at]:
                end.close()
            self.pairs[at], self.due[at] = socket.socketpair(), bytearray()

    def send(self, at: int) -> None:
        if at in self.ended:
            return
        acks = [
            self.frame(self.fronts[at], self.chance.randrange(10**15))
            for _ in range(self.chance.randint(1, 6))
        ]
        data = bytearray(b"".join(acks))
        if self.chance.random() < 0.3:
            data[self.chance.randrange(len(data))] = self.chance.randrange(256)
        if self.chance.random() < 0.3:
            del data[self.chance.randrange(len(data)) :]
        self.pairs[at][1].sendall(data)
        self.due[at] += data
        if self.chance.random() < 0.1:
            self.ended.add(at)
            self.pairs[at][1].close()

    def read(self) -> None:
        for at, came in self.module.read_acks(self.reader):
            assert self.fronts[at], "nobody is at this place"
            data = self.frame(self.fronts[at], came) if isinstance(came, int) else came
            assert data or at in self.ended, "the peer has not ended"
            assert self.due[at].startswith(data)
            del self.due[at][: len(data)]

    def call_wrongly(self) -> None:
        values: list[Any] = [None, -1, 3, 1 << 16, 1 << 33, 1 << 70, b"", b"x" * 200, "a", object(), 1.5]
        given = [self.chance.choice((self.reader, object(), None))]
        given += [self.chance.choice(values) for _ in range(self.chance.randint(0, 4))]
        if given[1:2] != [3]:  # it is right, if nobody is at this place
            with contextlib.suppress(TypeError, ValueError, OverflowError, OSError):
                self.module.watch_acks(*given)
        with contextlib.suppress(TypeError, ValueError):
            self.module.read_acks(self.chance.choice(values))

    def run(self, calls: int) -> None:
        for _ in range(calls):
            for at in self.chance.sample(range(SOCKETS), 8):
                self.chance.choice((self.turn, self.send, self.send))(at)
            self.read()
            self.call_wrongly()
        for _ in range(100):
            self.read()
        assert not any(due for at, due in enumerate(self.due) if self.fronts[at] and at not in self.ended)


if __name__ == "__main__":
    module, seed, calls = load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    Fuzz(module, seed).run(calls)
    AcksFuzz(module, seed).run(calls)
