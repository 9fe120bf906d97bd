"""The optional part in C: writes frames to many sockets in one call. `build.py` makes it.

Exports: `found`.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

type SendEach = Callable[[object | None, Sequence[int], Sequence[bytes]], Sequence[tuple[int, int]]]
"""(ring, descriptors, frames): write each frame; returns (index, written) of those not written whole."""


class Native(NamedTuple):
    """What the module in C offers. `sends.c` describes it."""

    open_ring: Callable[[], object]
    send_each: SendEach


def found() -> Native | None:
    """The built module; None where there is none."""
    try:
        module = importlib.import_module("huahuo.transport.native._sends")
    except ImportError:
        return None
    return Native(module.open_ring, module.send_each)
