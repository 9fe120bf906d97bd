"""Simulated sockets that are written to past their transports, as the part in C writes to real ones.

A descriptor is a number of a transport. Now and then a socket takes only a part of a frame. Streams have few
readers here, so cohorts begin with two.
"""

import contextlib
import errno
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any
from unittest.mock import patch
from weakref import WeakValueDictionary

from huahuo.transport import native
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.wire import sends, web_socket
from tests.support.simulator.marks import Marks

_SHORT = 0.03
"""The share of frames of which a socket takes a part."""


class Descriptors:
    """The open transports of one run, and the call that writes to many of them."""

    def __init__(self, seed: int, marks: Marks) -> None:
        self._chance = Random(f"direct {seed}")
        self._marks = marks
        self._transports: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._count = 0

    def of(self, transport: Any) -> int:
        """A number for a transport."""
        self._count += 1
        self._transports[self._count] = transport
        return self._count

    def send_each(self, descriptors: Sequence[int], frames: Sequence[bytes]) -> list[tuple[int, int]]:
        """See `huahuo.transport.native`. What is written to a socket that has ended is lost, as in TCP."""
        self._marks.sometimes("an event for many in one call", len(descriptors) > 1)
        short = []
        for at, (descriptor, frame) in enumerate(zip(descriptors, frames, strict=True)):
            transport = self._transports.get(descriptor)
            takes = len(frame)
            if self._chance.random() < _SHORT:
                self._marks.sometimes("a socket takes a part of a frame")
                takes = self._chance.randrange(len(frame))
                short.append((at, takes or -errno.EAGAIN))
            if takes and transport is not None and not transport.is_closing():
                transport.write(frame[:takes])
        return short


def _no_kernel(*_: object) -> Any:
    raise OSError(errno.EPERM, "a simulated kernel has no epoll")


@contextlib.contextmanager
def direct_writes(seed: int, marks: Marks) -> Iterator[None]:
    """Let services write so that are started meanwhile."""
    descriptors = Descriptors(seed, marks)
    part_in_c = native.Native(descriptors.send_each, _no_kernel, _no_kernel, _no_kernel)
    with (
        patch.object(native, "found", lambda: part_in_c),
        patch.object(sends, "_has_sockets", lambda: True),
        patch.object(web_socket, "descriptor_of", descriptors.of),
        patch.dict(FanOut.__init__.__kwdefaults__, {"cohorts_from": 2, "gather_every": 2}),
    ):
        yield
