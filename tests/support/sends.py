"""The ways in which new events can be written to sockets here."""

from typing import Final

import pytest

from huahuo.transport import native
from huahuo.transport.server.sends import Way

NEEDS: Final = "the part in C is not built: python transport/native/build.py"


def _has_ring() -> bool:
    found = native.found()
    if found is None:
        return True  # asked again once it is built
    try:
        found.open_ring()
    except OSError:
        return False
    return True


RINGS: Final[tuple[Way, ...]] = ("io_uring",) if _has_ring() else ()
"""Empty where the kernel or a container forbids io_uring."""
WAYS: Final[tuple[Way, ...]] = (*RINGS, "send", "transport")


def need(way: Way) -> None:
    """Skip a test of a way that needs the part in C, if that is not built."""
    if way != "transport" and native.found() is None:
        pytest.skip(NEEDS)
