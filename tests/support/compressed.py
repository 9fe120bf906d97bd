"""A small dictionary, made once, and what unpacks frames made with it."""

from functools import cache

from eventstore.zstd import Decompressor, Dictionary
from huahuo.dictionaries.training import made_up
from transport.compression import Compression


@cache
def dictionary() -> Dictionary:
    return made_up(1, 2048, tries=100)


def compression() -> Compression:
    return Compression(dictionary())


def unpacked(payload: bytes) -> bytes:
    return Decompressor(dictionary(), output_bytes_max=1 << 25).decompress(payload)
