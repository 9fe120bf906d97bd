"""Tombstones that name another place than theirs. Pure.

Nothing proves the stream and seq of a single tombstone. But the seqs of a stream have no gap and ascend by
position, and its events are proven. So what is missing before an event says what the tombstones there are.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

type Place = tuple[int, int]
"""Stream and seq."""


class Tombstone(NamedTuple):
    """As it stands in its row."""

    position: int
    stream: int
    seq: int


class _Last(NamedTuple):
    """The newest of a stream. `tombstone`: it is one, and stands behind one at position `before`."""

    seq: int
    position: int
    tombstone: Tombstone | None = None
    before: int = 0


class _Gap(NamedTuple):
    stream: int
    seqs: range
    after: int
    before: int


def misnumbered(rows: Iterable[tuple[int, int, int, int]]) -> Iterator[tuple[Tombstone, Place]]:
    """Those whose place is another one, and that place. `rows`: position, stream, seq, and 1 for a tombstone.

    By position, all of them. Where it is not clear which tombstones are what is missing, none is named.
    """
    gaps, doubted = _contradictions(rows)
    for gap in gaps:
        within = [one for one in doubted if gap.after < one.position < gap.before]
        own = [one for one in within if one.stream == gap.stream]
        chosen = next((some for some in (own, within) if len(some) == len(gap.seqs)), [])
        for seq, one in zip(gap.seqs, chosen, strict=False):
            if (one.stream, one.seq) != (gap.stream, seq):
                yield one, (gap.stream, seq)
        doubted = [one for one in doubted if one not in chosen]


def _contradictions(rows: Iterable[tuple[int, int, int, int]]) -> tuple[list[_Gap], list[Tombstone]]:
    """What is missing before events, and the tombstones that do not continue their stream."""
    lasts: dict[int, _Last] = {}
    gaps: list[_Gap] = []
    doubted: list[Tombstone] = []
    for position, stream, seq, is_tombstone in rows:
        last = lasts.get(stream) or _Last(0, 0)
        if is_tombstone:
            one = Tombstone(position, stream, seq)
            if seq == last.seq + 1:
                lasts[stream] = _Last(seq, position, one, last.position)
            else:
                doubted.append(one)
            continue
        if seq == last.seq and last.tombstone is not None:
            doubted.append(last.tombstone)
            last = _Last(seq - 1, last.before)
        if seq > last.seq + 1:
            gaps.append(_Gap(stream, range(last.seq + 1, seq), last.position, position))
        lasts[stream] = _Last(seq, position)
    return gaps, sorted(doubted)
