"""zstd frames with a shared, trained dictionary: made whole, read with bounds. Pure.

A frame does not name its dictionary: there is one for a connection, which is told of it and looks at the id
in the dictionary itself. Ids are never reused: another content is another id.
"""

import msgspec
import zstandard

from huahuo.eventstore.errors import EventStoreError

DICTIONARY_BYTES_MAX = 1 << 20
_MAGIC = b"\x28\xb5\x2f\xfd"
_SHORT_BYTES_MAX = 4 << 10
_SHORT = zstandard.ZstdCompressionParameters(
    window_log=14,
    chain_log=13,
    hash_log=13,
    search_log=5,
    min_match=6,
    strategy=zstandard.STRATEGY_GREEDY,
)
"""For messages that find most of what they say in the dictionary: a thorough look at it for matches long
enough to be worth their price. What is stronger than that does not make single events smaller; in longer
messages, which find most in themselves, it saves a fifteenth of the bytes at twice the work."""
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

    Every frame states its size. A checksum would cost four bytes and guard against what TCP and the
    parser of the message see already; the dictionary's id two, and both sides know it. `level` is for
    long messages and for those without a dictionary.
    """

    def __init__(self, dictionary: Dictionary | None, level: int) -> None:
        self._long = self._short = zstandard.ZstdCompressor(level=level)
        if dictionary is None:
            return
        known = zstandard.ZstdCompressionDict(dictionary.data, dict_type=_TRAINED)
        known.precompute_compress(compression_params=_SHORT)
        self._short = zstandard.ZstdCompressor(level=level, dict_data=known, write_dict_id=False)
        known = zstandard.ZstdCompressionDict(dictionary.data, dict_type=_TRAINED)
        known.precompute_compress(level=level)
        self._long = zstandard.ZstdCompressor(level=level, dict_data=known, write_dict_id=False)

    def compress(self, data: bytes) -> bytes:
        """`data` as one frame."""
        return (self._short if len(data) <= _SHORT_BYTES_MAX else self._long).compress(data)


class Decompressor:
    """Reads frames of strangers: never more than `output_bytes_max`, none that names another dictionary."""

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
        if header.dict_id not in (0, self._id):  # 0: it names none
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
