"""The compressed protocol's frames (PROTOCOL 7), server side: one compressor for all connections. Pure.

A message is compressed once, however many connections it goes to. What may be compressed is decided
where messages are made: runs of events, snapshots, and replies whose command says so. Never what
belongs to no dictionary reader yet (the authentication), what holds the text of strangers beside
something worth guessing and can be asked for again and again (mails, lists of mails), or what many
users' text stands in (the stream `log`): the length of a compressed message tells of its content.
"""

from typing import Final

from huahuo.eventstore.zstd.frames import Compressor, Dictionary
from huahuo.transport.protocol.frames import binary_frame, text_frame

LEVEL: Final = 3
"""Higher ones save a tenth of the bytes in runs, and nothing in single events, at five times the cost."""
COMPRESSED_BYTES_MAX: Final = 4 << 20
"""Larger messages stay text: they would hold up the loop for everybody."""


def dictionary_path(number: int) -> str:
    """Where a dictionary is served."""
    return f"/dictionary/{number}"


class Compression:
    """See the module. `before` and `after` count bytes of messages, once for each that was compressed."""

    def __init__(self, dictionary: Dictionary | None) -> None:
        self._compressor = Compressor(dictionary, LEVEL)
        self._dictionary = dictionary
        self._apart: Compressor | None = None
        self.name = f"zstd/{dictionary.id if dictionary else 0}"
        """Frames of equal names are interchangeable."""
        self.announced: dict[str, object] | None = None
        """`dictionary` of `authentication_result`; None: none is used."""
        if dictionary is not None:
            self.announced = {"id": dictionary.id, "url": dictionary_path(dictionary.id)}
        self.before = 0
        self.after = 0

    def frame(self, payload: bytes) -> bytes:
        """`payload` as a binary WebSocket frame, or as text where compressing gains nothing."""
        return self._frame(payload, self._compressor)

    def frame_apart(self, payload: bytes) -> bytes:
        """As `frame`, for another thread than the loop's; not for two at once."""
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
