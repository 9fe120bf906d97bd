"""The compressed protocol's frames (PROTOCOL 7), server side: one compressor for all connections. Pure.

A message is compressed once, however many connections it goes to. The code that makes a message decides
whether it may be compressed: runs of events, snapshots, and replies whose command says so.

The length of a compressed message reveals something of its content. So these are never compressed:

* messages that can be requested again and again and hold a stranger's text together with a secret (mails,
  lists of mails): see `Action.compressible`,
* messages with the text of many users (the stream `log`).

The authentication is not compressed because the client has no dictionary yet.
"""

from typing import Final

from huahuo.eventstore.zstd.frames import Compressor, Dictionary
from huahuo.transport.protocol.frames import binary_frame, text_frame

LEVEL: Final = 3
"""Higher levels save 10 % of the bytes in runs and nothing in single events, at five times the cost."""
COMPRESSED_BYTES_MAX: Final = 4 << 20
"""Larger messages stay text, because compressing them would delay all connections."""


def dictionary_path(number: int) -> str:
    """The path at which a dictionary is served."""
    return f"/dictionary/{number}"


class Compression:
    """See the module. `before` and `after`: total bytes before and after, each message counted once."""

    def __init__(self, dictionary: Dictionary | None) -> None:
        self._compressor = Compressor(dictionary, LEVEL)
        self._dictionary = dictionary
        self._apart: Compressor | None = None
        self.name = f"zstd/{dictionary.id if dictionary else 0}"
        """Frames of equal names are interchangeable."""
        self.before = 0
        self.after = 0

    def announced(self, root: str = "") -> dict[str, object] | None:
        """The member `dictionary` of `authentication_result`, served below `root`. None: there is none."""
        if self._dictionary is None:
            return None
        return {"id": self._dictionary.id, "url": root + dictionary_path(self._dictionary.id)}

    def frame(self, payload: bytes) -> bytes:
        """`payload` as a binary WebSocket frame, or as text if compression does not shrink it."""
        return self._frame(payload, self._compressor)

    def frame_apart(self, payload: bytes) -> bytes:
        """As `frame`, for one other thread at a time."""
        if self._apart is None:
            self._apart = Compressor(self._dictionary, LEVEL)
        return self._frame(payload, self._apart)

    def _frame(self, payload: bytes, compressor: Compressor) -> bytes:
        if len(payload) > COMPRESSED_BYTES_MAX:
            return text_frame(payload)
        packed = compressor.compress(payload)
        if len(packed) >= len(payload):
            return text_frame(payload)
        self.before += len(payload)
        self.after += len(packed)
        return binary_frame(packed)
