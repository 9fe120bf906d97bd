"""Compressing blobs for storing. `huahuo.eventstore.blobs.unpack` gives them back."""

import threading

import zstandard

_LEVEL = 3
_KEPT_BYTES_MAX = 64 << 10
"""Larger data gets a compressor of its own, because it makes one keep up to 4 MiB for good."""


class _Kept(threading.local):
    """A compressor for each thread, as making one takes six times as long as packing a mail."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)


_kept = _Kept()


def pack(data: bytes) -> bytes:
    """`data` compressed, for storing."""
    if len(data) > _KEPT_BYTES_MAX:
        return zstandard.ZstdCompressor(level=_LEVEL).compress(data)
    return _kept.compressor.compress(data)
