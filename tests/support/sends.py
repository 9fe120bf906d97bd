"""The ways in which new events can be written to sockets here."""

from typing import Final

import pytest

from huahuo.transport import native
from huahuo.transport.wire.sends import Way

NEEDS: Final = "the part in C is not built: python transport/native/build.py"


WAYS: Final[tuple[Way, ...]] = ("send", "transport")


def need(way: Way) -> None:
    """Skip a test of a way that needs the part in C, if that is not built."""
    if way != "transport" and native.found() is None:
        pytest.skip(NEEDS)
