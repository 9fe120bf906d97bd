"""What a receiver counts, in a file that both sides map: read while the receiver runs, at no cost to it."""

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FIELDS = (
    "ready", "closed", "events", "lost", "doubled", "bytes", "frames", "lowest", "first_ns", "last_ns",
    "done",
)  # fmt: skip
SUB_BITS = 5
BUCKETS = 64 << SUB_BITS
"""Latencies in buckets of about 3 %: 32 to each power of two, in microseconds."""


def bucket_of(us: int) -> int:
    """The bucket of a latency."""
    top = max(0, us.bit_length() - SUB_BITS)
    return (top << SUB_BITS) + ((us >> (top - 1)) & ((1 << SUB_BITS) - 1) if top else us)


def bucket_us(number: int) -> int:
    """The smallest latency of a bucket."""
    top, sub = number >> SUB_BITS, number & ((1 << SUB_BITS) - 1)
    return ((1 << SUB_BITS) | sub) << (top - 1) if top else sub


@dataclass(frozen=True)
class Counts:
    """A receiver's figures at one moment. `a - b` is what came between two of them."""

    values: tuple[int, ...]
    buckets: tuple[int, ...]

    def __getattr__(self, name: str) -> int:
        try:
            return self.values[FIELDS.index(name)]
        except ValueError:
            raise AttributeError(name) from None

    def __sub__(self, before: "Counts") -> "Counts":
        return Counts(
            tuple(a - b for a, b in zip(self.values, before.values, strict=True)),
            tuple(a - b for a, b in zip(self.buckets, before.buckets, strict=True)),
        )

    def quantile_ms(self, share: float) -> float:
        """The latency from publication to receipt that `share` of the events did not exceed."""
        total = sum(self.buckets)
        if not total:
            return float("nan")
        seen = 0
        for number, count in enumerate(self.buckets):
            seen += count
            if seen >= share * total:
                return bucket_us(number + 1) / 1000
        return float("inf")


class Report:
    """The mapped file. The receiver in Python writes through `set`; the harness only reads."""

    def __init__(self, path: Path, connections: int) -> None:
        self._head = struct.Struct(f"={len(FIELDS)}Q")
        self._buckets = struct.Struct(f"={BUCKETS}Q")
        self._last = struct.Struct(f"={connections}Q")
        size = self._head.size + self._buckets.size + self._last.size
        if not path.exists() or path.stat().st_size < size:
            with path.open("ab") as file:
                file.truncate(size)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)

    def counts(self) -> Counts:
        """Everything but the connections' own numbers."""
        return Counts(
            self._head.unpack_from(self._map), self._buckets.unpack_from(self._map, self._head.size)
        )

    def value(self, name: str) -> int:
        """One field."""
        at = 8 * FIELDS.index(name)
        return int.from_bytes(self._map[at : at + 8], "little")

    def last(self) -> tuple[int, ...]:
        """The last number of each connection."""
        return self._last.unpack_from(self._map, self._head.size + self._buckets.size)

    def set(self, values: Sequence[int], buckets: Sequence[int], last: Sequence[int]) -> None:
        """Write everything."""
        self._head.pack_into(self._map, 0, *values)
        self._buckets.pack_into(self._map, self._head.size, *buckets)
        self._last.pack_into(self._map, self._head.size + self._buckets.size, *last)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()
