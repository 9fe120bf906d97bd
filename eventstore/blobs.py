"""Blobs: content stored next to the events, named by its hash, compressed, reference-counted."""

from hashlib import blake2b

import zstandard

from huahuo.eventstore.errors import EventStoreError

BLOB_BYTES_MAX = 64 << 20


def blob_id(data: bytes) -> str:
    """The name of `data`: its BLAKE2b-256 hash as 64 hexadecimal digits."""
    return blake2b(data, digest_size=32).hexdigest()


def unpack(packed: bytes, bytes_max: int = BLOB_BYTES_MAX) -> bytes:
    """What `pack` (`core.seal`) was given.

    Raises:
        EventStoreError: it is not readable, or larger than `bytes_max`.
    """
    try:
        # The library ignores its own cap when the frame states a size: check that first.
        if zstandard.frame_content_size(packed) > bytes_max:
            raise EventStoreError(f"a stored blob is larger than {bytes_max} bytes")
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=bytes_max)
    except zstandard.ZstdError:
        raise EventStoreError("a stored blob is not readable") from None
