"""zstd frames with a shared, trained dictionary: made whole, read with bounds. Pure.

A frame does not name its dictionary: a connection has one, announced to the peer, which reads the id in the
dictionary itself. Ids are never reused: other content has another id.
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
"""For short messages, whose text is mostly in the dictionary: a thorough search for matches that are long
enough to pay. Stronger parameters do not make single events smaller. In longer messages, which match mostly
their own text, they save a fifteenth of the bytes at twice the work."""
_TRAINED = zstandard.DICT_TYPE_FULLDICT


class BadFrame(EventStoreError):  # noqa: N818  says what it is
    """A compressed frame is damaged, too large, or made with another dictionary."""


class BadDictionary(EventStoreError):  # noqa: N818
    """The bytes are not a trained dictionary, or no dictionary can be trained from the samples."""


class Dictionary(msgspec.Struct, frozen=True):
    """A trained dictionary as it is stored and served; `id` is the one in its own header."""

    id: int
    data: bytes

    @classmethod
    def of(cls, data: bytes) -> "Dictionary":
        """Check a dictionary that comes from outside.

        Raises:
            BadDictionary: the bytes are no dictionary, or too many.
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

    Every frame states its size. It has no checksum (four bytes), since TCP and the parser of the message
    notice the same damage, and no dictionary id (two bytes), since both sides know it. `level` applies to
    long messages, and to all messages where there is no dictionary.
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
    """Reads untrusted frames: at most `output_bytes_max` each, none that names another dictionary."""

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
        # The library allocates what the frame claims and ignores a cap of ours: check the claim first.
        if header.content_size == zstandard.CONTENTSIZE_UNKNOWN:
            raise BadFrame("a zstd frame that does not state its size")
        if max(header.content_size, header.window_size) > self._output_bytes_max:
            raise BadFrame(f"a zstd frame larger than {self._output_bytes_max} bytes")
        try:
            if not header.content_size:
                return self._empty(frame)
            return self._zstd.decompress(frame, read_across_frames=False, allow_extra_data=False)
        except (zstandard.ZstdError, MemoryError):
            raise BadFrame("a damaged zstd frame") from None

    def _empty(self, frame: bytes) -> bytes:
        """As `decompress`, for a frame that claims to hold nothing: the library looks at its header only."""
        reading = self._zstd.decompressobj(read_across_frames=False)
        if reading.decompress(frame) or not reading.eof or reading.unused_data:
            raise BadFrame("a damaged zstd frame")
        return b""
