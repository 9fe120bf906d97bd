"""The optional part in C: writes frames to many sockets in one call, and reads acks. `build.py` makes it.

Exports: `found`.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

type SendEach = Callable[[Sequence[int], Sequence[bytes]], Sequence[tuple[int, int]]]
"""(descriptors, frames): write each frame; returns (index, written) of those not written whole."""


class Native(NamedTuple):
    """What the module in C offers. `sends.c` describes it."""

    send_each: SendEach
    open_acks: Callable[[], tuple[object, int]]
    watch_acks: Callable[..., None]
    read_acks: Callable[[object], list[tuple[int, int | bytes]]]


def found() -> Native | None:
    """The built module; None where there is none, or one that was built of an older source."""
    try:
        module = importlib.import_module("huahuo.transport.native._sends")
        return Native(*(getattr(module, name) for name in Native._fields))
    except (ImportError, AttributeError):
        return None
