"""Messages of one client that came together."""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

NONE: Final[Sequence[bytes]] = ()
"""The texts of a batch that is done with."""


class Heard(Enum):
    """What is to be done with the messages that a listener did not handle."""

    QUEUE = auto()
    """They must wait for their turn, behind the others."""
    LATER = auto()
    """Offer them again when the listener calls `WebSocket.go_on` or `WebSocket.go_on_soon`."""


class Batch:
    """Messages that an idle connection is to handle in order. It says how far it came.

    The first `at` messages of `texts` are handled. `odd`: the next one is not UTF-8. `now_s`: when this was
    last asked. `until_s`: no message is begun after that.
    """

    __slots__ = ("at", "now_s", "odd", "texts", "until_s")

    def __init__(self, texts: Sequence[bytes], at: int, now_s: float, at_most_s: float) -> None:
        self.texts = texts
        self.at = at
        self.odd = False
        self.now_s = now_s
        self.until_s = now_s + at_most_s


def is_utf8(text: bytes) -> bool:
    """Whether it is."""
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError:
            return False
    return True
