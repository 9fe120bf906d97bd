"""Random calls of a build of the part in C: `native_fuzz MODULE SEED CALLS`.

A sanitizer ends it with an error. Arguments are mostly right, some are of the wrong type or length, and some
sockets are full. Whatever was received must be what the calls said was written.
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
        self.rings: list[object | None] = [None]
        with contextlib.suppress(OSError):
            self.rings.append(module.open_ring())
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
        short = dict(self.module.send_each(self.chance.choice(self.rings), descriptors, frames))
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
            self.rings[-1],
            1.5,
        ]
        lists: list[Any] = [
            [self.chance.choice(values) for _ in range(self.chance.randint(0, 5))],
            tuple(values),
            self.chance.choice(values),
            iter([b"a", 7]),
        ]
        given = [self.chance.choice(values), self.chance.choice(lists), self.chance.choice(lists)]
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


if __name__ == "__main__":
    Fuzz(load(sys.argv[1]), int(sys.argv[2])).run(int(sys.argv[3]))
