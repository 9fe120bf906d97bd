"""zstd frames with a shared, trained dictionary: made whole, read with bounds. Pure.

A dictionary's id stands in every frame made with it, so that a frame read with another one is refused
instead of being turned into other text. Ids are never reused: another content is another id.
"""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec
import zstandard

from eventstore.errors import EventStoreError

DICTIONARY_BYTES_MAX = 1 << 20
DICTIONARY_BYTES_MIN = 256
_MAGIC = b"\x28\xb5\x2f\xfd"
_ID_FIRST, _ID_COUNT = 1 << 15, 1 << 15
"""Ids from 32,768 may be chosen freely (RFC 8878), and below 65,536 one takes two bytes of a frame."""
_TRAINED = zstandard.DICT_TYPE_FULLDICT


class BadFrame(EventStoreError):  # noqa: N818  says what it is
    """A compressed frame is damaged, too large, or made with another dictionary."""


class BadDictionary(EventStoreError):  # noqa: N818
    """Bytes that are no trained dictionary, or samples from which none can be made."""


class Dictionary(msgspec.Struct, frozen=True):
    """A trained dictionary as it is stored and served; `id` is the one in its own header."""

    id: int
    data: bytes

    @classmethod
    def of(cls, data: bytes) -> "Dictionary":
        """Look at a dictionary from outside.

        Raises:
            BadDictionary: it is none, or too large.
        """
        if len(data) > DICTIONARY_BYTES_MAX:
            raise BadDictionary(f"a dictionary of {len(data)} bytes, at most {DICTIONARY_BYTES_MAX}")
        try:
            known = zstandard.ZstdCompressionDict(data, dict_type=_TRAINED)
            zstandard.ZstdDecompressor(dict_data=known).decompress(
                zstandard.ZstdCompressor(dict_data=known).compress(b"probe")
            )
        except (zstandard.ZstdError, ValueError, MemoryError):
            raise BadDictionary("these bytes are no zstd dictionary") from None
        return cls(known.dict_id(), data)


class Compressor:
    """Makes frames. Not for two threads at once.

    Every frame states its size and its dictionary; a checksum would cost four bytes and guard against
    what TCP and the parser of the message see already.
    """

    def __init__(self, dictionary: Dictionary | None, level: int) -> None:
        known = None
        if dictionary is not None:
            known = zstandard.ZstdCompressionDict(dictionary.data, dict_type=_TRAINED)
            known.precompute_compress(level=level)
        self._zstd = zstandard.ZstdCompressor(level=level, dict_data=known)

    def compress(self, data: bytes) -> bytes:
        """`data` as one frame."""
        return self._zstd.compress(data)


class Decompressor:
    """Reads frames of strangers: never more than `output_bytes_max`, never another dictionary."""

    def __init__(self, dictionary: Dictionary | None, *, output_bytes_max: int) -> None:
        self._id = dictionary.id if dictionary is not None else 0
        self._output_bytes_max = output_bytes_max
        known = None
        if dictionary is not None:
            known = zstandard.ZstdCompressionDict(dictionary.data, dict_type=_TRAINED)
        self._zstd = zstandard.ZstdDecompressor(dict_data=known)

    def decompress(self, frame: bytes) -> bytes:
        """The content of exactly one frame, which must state its size.

        Raises:
            BadFrame: anything else.
        """
        if frame[:4] != _MAGIC:
            raise BadFrame("not a zstd frame")
        try:
            header = zstandard.get_frame_parameters(frame)
        except zstandard.ZstdError:
            raise BadFrame("a damaged zstd frame") from None
        if header.dict_id != self._id:
            raise BadFrame(f"made with the dictionary {header.dict_id}, not {self._id}")
        # The library allocates what the frame claims and ignores a cap of ours: look at the claim first.
        if header.content_size == zstandard.CONTENTSIZE_UNKNOWN:
            raise BadFrame("a zstd frame that does not state its size")
        if max(header.content_size, header.window_size) > self._output_bytes_max:
            raise BadFrame(f"a zstd frame larger than {self._output_bytes_max} bytes")
        try:
            return self._zstd.decompress(frame, read_across_frames=False, allow_extra_data=False)
        except (zstandard.ZstdError, MemoryError):
            raise BadFrame("a damaged zstd frame") from None


def train(samples: Sequence[bytes], size_bytes: int, level: int) -> Dictionary:
    """A dictionary of about `size_bytes` for messages like `samples`; the same ones give the same.

    Raises:
        BadDictionary: too few samples, or a size that is none.
    """
    if not DICTIONARY_BYTES_MIN <= size_bytes <= DICTIONARY_BYTES_MAX:
        raise BadDictionary(f"a size from {DICTIONARY_BYTES_MIN} to {DICTIONARY_BYTES_MAX} bytes is needed")
    digest = blake2b(digest_size=8)
    for sample in samples:
        digest.update(len(sample).to_bytes(8, "big") + sample)
    digest.update(f"{size_bytes} {level} {zstandard.ZSTD_VERSION}".encode())
    number = _ID_FIRST + int.from_bytes(digest.digest(), "big") % _ID_COUNT
    try:
        made = zstandard.train_dictionary(size_bytes, list(samples), dict_id=number, level=level)
    except (zstandard.ZstdError, ValueError):
        raise BadDictionary("these samples are too few to train from") from None
    return Dictionary(number, made.as_bytes())
