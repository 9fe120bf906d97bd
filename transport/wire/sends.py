"""Writes new events to many sockets at once, past the transports of the event loop.

A transport costs each frame a buffer, a place in a queue and a look at the socket after it. So while a
fan-out goes on, the frames for sockets whose transport has nothing to write are collected. At its end they
are written in one call by `send` in C (`native`), else each by its transport. Bytes that a socket does not
take go to its transport, which waits for room and learns of faults.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import structlog

from huahuo.transport import native

type Way = Literal["auto", "send", "transport"]

_JOINED_BYTES_MAX = 64 << 10
"""Frames for one socket are joined up to this length: beyond it a copy costs more than a system call."""

_log = structlog.get_logger(__name__)


class Direct(Protocol):
    """A socket that may be written to without its transport."""

    collected: int
    """Its place among the frames that are collected, or -1."""

    def write(self, frame: bytes) -> None:
        """Write a frame, now or at the end of the fan-out."""
        ...

    def write_rest(self, frame: bytes, written: int) -> None:
        """The socket took this many bytes of a frame: its transport must write the others."""
        ...

    def abort(self) -> None:
        """Nobody knows how much was written: end the connection."""
        ...


def descriptor_of(transport: asyncio.BaseTransport) -> int:
    """The descriptor of a socket that may be written to directly; -1 if there is none, as with TLS."""
    found = transport.get_extra_info("socket")
    if found is None or transport.get_extra_info("sslcontext") is not None:
        return -1
    return int(found.fileno())


def _has_sockets() -> bool:
    """Whether this loop's transports write to the descriptors that they name; a simulated loop's do not."""
    loop = asyncio.get_running_loop()
    return isinstance(loop, asyncio.SelectorEventLoop) or any(
        kind.__module__.partition(".")[0] == "uvloop" for kind in type(loop).__mro__
    )


class Sends:
    """See the module. All methods belong to the loop's thread."""

    __slots__ = ("_descriptors", "_frames", "_send_each", "_sockets", "_way", "collecting")

    def __init__(self, way: Way = "transport", send_each: native.SendEach | None = None) -> None:
        """`send_each` stands for the part in C. None: `open` looks for that."""
        self._way = way
        self._send_each = send_each
        self._sockets: list[Direct] = []
        self._descriptors: list[int] = []
        self._frames: list[bytes] = []
        self.collecting = False
        """Whether frames may be given to `put` now."""

    def open(self) -> Way:
        """Find the way that is possible here, in the thread that will write."""
        found = native.found() if self._way != "transport" and _has_sockets() else None
        if found is None:
            return "transport"
        self._send_each = found.send_each
        return "send"

    @property
    def direct(self) -> bool:
        """Whether sockets are written to past their transports at all."""
        return self._send_each is not None

    def write_all(self, sockets: Sequence[Direct], descriptors: Sequence[int], frame: bytes) -> None:
        """Write one frame to all these sockets now. None of them has a frame that was collected."""
        assert self._send_each is not None, "asked only where there is a direct way"
        frames = [frame] * len(descriptors)
        short = self._send_each(descriptors, frames)
        if short:
            self._finish(tuple(sockets), frames, short)

    def begin(self) -> None:
        """Collect frames from now on."""
        self.collecting = True

    def put(self, socket: Direct, descriptor: int, frame: bytes) -> None:
        """Keep a frame until `flush`, behind the one that is kept for this socket already."""
        at = socket.collected
        if at < 0:
            socket.collected = len(self._frames)
            self._sockets.append(socket)
            self._descriptors.append(descriptor)
            self._frames.append(frame)
        elif len(self._frames[at]) + len(frame) <= _JOINED_BYTES_MAX:
            self._frames[at] += frame
        else:
            self.flush()
            socket.write(frame)

    def end(self) -> None:
        """Write what was collected, and collect no more."""
        self.collecting = False
        if self._frames:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        sockets, descriptors, frames = self._sockets, self._descriptors, self._frames
        self._sockets, self._descriptors, self._frames = [], [], []
        for socket in sockets:
            socket.collected = -1
        if self._send_each is None or not frames:
            short: Iterable[tuple[int, int]] = ((at, 0) for at in range(len(frames)))
        else:
            short = self._send_each(descriptors, frames)
        self._finish(sockets, frames, short)

    @staticmethod
    def _finish(sockets: Sequence[Direct], frames: Sequence[bytes], short: Iterable[tuple[int, int]]) -> None:
        """Let the transports write what their sockets did not take."""
        for at, written in short:
            try:
                sockets[at].write_rest(frames[at], max(written, 0))
            except Exception:  # noqa: BLE001  one connection's fault is not the others'
                _log.exception("events_not_written")
                sockets[at].abort()
