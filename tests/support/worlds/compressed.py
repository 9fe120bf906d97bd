"""A small dictionary, made once, and a reader of frames made with it."""

from functools import cache

from huahuo.eventstore.zstd_frames import Decompressor, Dictionary
from huahuo.transport.protocol.dialects import Compression
from scripts.train_dictionary import made_up


@cache
def dictionary() -> Dictionary:
    return made_up(1, 2048, tries=100)


def compression() -> Compression:
    return Compression(dictionary())


def unpacked(payload: bytes) -> bytes:
    return Decompressor(dictionary(), output_bytes_max=1 << 25).decompress(payload)
