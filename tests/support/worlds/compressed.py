"""A small dictionary, made once, and a reader of frames made with it."""

from functools import cache

from huahuo.app.application import standard
from huahuo.dictionaries.zstd_dictionaries import made_up
from huahuo.eventstore.zstd_frames import Decompressor, Dictionary
from huahuo.transport.protocol.dialects import Compression


@cache
def dictionary() -> Dictionary:
    return made_up(standard(), 1, 2048, tries=100)


def compression() -> Compression:
    return Compression(dictionary())


def unpacked(payload: bytes) -> bytes:
    return Decompressor(dictionary(), output_bytes_max=1 << 25).decompress(payload)
