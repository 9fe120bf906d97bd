"""Text frames of clients in the bytes of a socket, without the library's parser. Pure."""

from types import GeneratorType
from typing import cast

from websockets.protocol import Protocol as WebSocketProtocol
from websockets.streams import StreamReader

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library's part in C is optional
    from websockets.utils import apply_mask

DIRECT_BYTES_MAX = 64 << 10
"""Longer messages go through the library."""
_LEAST_HEAD_BYTES = 2
SHORT_HEAD_BYTES = 6
_SHORT_BYTES_MAX = 125
_LONGER_HEAD_BYTES = 8
_FIRST_BYTES_MAX = 4096
_LENGTH_16 = 126
_FINAL_TEXT = 0x81
_MASKED = 0x80
_AT_EOF = StreamReader.at_eof.__code__
"""The function in which the library's parser is suspended while it has read no part of a frame."""


def short_text(data: bytes) -> bytes | None:
    """The payload if `data` is exactly one masked, unfragmented text frame of at most 125 bytes.

    RFC 6455, 5.2 and 5.3: two bytes, the mask of four, the payload.
    """
    size = len(data) - SHORT_HEAD_BYTES
    if size < 1 or size > _SHORT_BYTES_MAX or data[0] != _FINAL_TEXT or data[1] != _MASKED | size:
        return None
    return apply_mask(data[SHORT_HEAD_BYTES:], data[2:SHORT_HEAD_BYTES])


def first_text(data: bytes) -> bytes | None:
    """As `short_text`, for a payload of 126 bytes to 4 KiB, whose length takes two bytes more: a sign-in."""
    size = len(data) - _LONGER_HEAD_BYTES
    if not _SHORT_BYTES_MAX < size <= _FIRST_BYTES_MAX or data[:4] != b"\x81\xfe%b" % size.to_bytes(2):
        return None
    return apply_mask(data[_LONGER_HEAD_BYTES:], data[4:_LONGER_HEAD_BYTES])


def texts_in(data: bytes) -> tuple[list[bytes], int, bool]:
    """(payloads, end, begun) of the masked, unfragmented text frames that `data` begins with.

    `end`: where the last one ends. `begun`: what follows may be the beginning of another one, of at most
    `DIRECT_BYTES_MAX`.
    """
    texts: list[bytes] = []
    at, have = 0, len(data)
    while have - at >= _LEAST_HEAD_BYTES:
        size = data[at + 1] - _MASKED
        if data[at] != _FINAL_TEXT or size < 0:
            return texts, at, False
        begin = at + SHORT_HEAD_BYTES
        if size > _SHORT_BYTES_MAX:
            if size != _LENGTH_16:
                return texts, at, False
            begin += 2
            if have < begin:
                return texts, at, True
            size = data[at + 2] << 8 | data[at + 3]
            if size <= _SHORT_BYTES_MAX:  # not its shortest form: a fault, for the library to tell
                return texts, at, False
        end = begin + size
        if have < end:
            return texts, at, end - at <= DIRECT_BYTES_MAX
        texts.append(apply_mask(data[begin:end], data[begin - 4 : begin]))
        at = end
    return texts, at, at < have and data[at] == _FINAL_TEXT


def as_frames(texts: list[bytes]) -> bytes:
    """Frames that `texts_in` reads as these texts, for the library."""
    frames: list[bytes] = []
    for text in texts:
        size = len(text)
        head = bytes((_MASKED | size,)) if size <= _SHORT_BYTES_MAX else b"\xfe%b" % size.to_bytes(2)
        frames.append(b"\x81%b\0\0\0\0%b" % (head, text))
    return b"".join(frames)


type _Generator = GeneratorType[None, None, object]


def between_frames(protocol: WebSocketProtocol) -> bool:
    """Whether the library has read every frame to its end.

    An empty buffer is no proof: the parser may have taken a frame's head and wait for the rest.
    """
    waits_in = cast("_Generator", protocol.parser)
    while waits_in.gi_yieldfrom is not None:
        waits_in = cast("_Generator", waits_in.gi_yieldfrom)
    return waits_in.gi_code is _AT_EOF
