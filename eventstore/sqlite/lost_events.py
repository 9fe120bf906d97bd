"""To which streams the lost events of a damaged log belonged.

The seqs of a stream have no gap, so events of the same stream before and behind a lost one, and other rows,
tell it.
"""

import contextlib
import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from huahuo.eventstore.sqlite.salvage import FAULTS, text_in, until_fault

_INDEXED: Final = "SELECT stream, seq, position FROM seq_index WHERE position BETWEEN ? AND ?"
_REACHED: Final = (
    "SELECT at_stream, max(at_seq) FROM command GROUP BY at_stream",
    "SELECT stream, max(seq) FROM ack GROUP BY stream",
    "SELECT stream, max(seq) FROM keyframe GROUP BY stream",
)
"""Rows that say that a stream got at least so far."""


class Gap(msgspec.Struct, frozen=True):
    """Seqs of a stream that are missing, and the positions between which they were."""

    stream: int
    seqs: range
    after: int
    before: int


class Missing(msgspec.Struct):
    """What a walk over the positions of a log met, in so far as it tells what is missing."""

    holes: list[range] = msgspec.field(default_factory=list)
    """Positions without an event that is whole."""
    gaps: list[Gap] = msgspec.field(default_factory=list)
    lasts: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)
    """The newest seq of each stream that is whole, and its position."""
    told: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)
    """Of events that are not whole the stream and seq that they tell."""


def attribute(
    missing: Missing, end: int, names: Mapping[int, str], connection: sqlite3.Connection
) -> tuple[dict[int, tuple[int, int]], list[int]]:
    """The positions of lost events with the stream and seq of each, and those of which nothing tells it.

    `end`: where the log ends. `names`: of the streams by number. `connection` reads the log's other tables.
    """
    lost: dict[int, tuple[int, int]] = {}
    free = {position for hole in missing.holes for position in hole}
    if not free:
        return lost, []
    places = {(gap.stream, seq): gap for gap in missing.gaps for seq in gap.seqs}
    with contextlib.suppress(*FAULTS):
        for stream, seq, position in connection.execute(_INDEXED, (min(free), max(free))):
            last, _at = missing.lasts.get(stream, (0, 0))
            if position in free and ((stream, seq) in places or seq > last):
                lost[position] = (stream, seq)
                places.pop((stream, seq), None)
                free.discard(position)
    numbers = {name: number for number, name in names.items()}
    for sql in _REACHED:
        for name, seq in until_fault(connection, sql)[0]:
            number = numbers.get(str(text_in(name)), 0)
            last, at = missing.lasts.get(number, (0, 0))
            # A damaged row may have any number in it, so the count is bounded.
            known = {place for place in lost.values() if place[0] == number}
            if number and last < seq <= last + len(free):
                gap = Gap(number, range(last + 1, seq + 1), at, end + 1)
                places |= {(number, one): gap for one in gap.seqs if (number, one) not in known}
    order = sorted(places, key=lambda place: (places[place].before, place))
    rest = sorted(free)
    for place in order:
        gap = places[place]
        chosen = next((position for position in rest if gap.after < position < gap.before), None)
        if chosen is not None:
            rest.remove(chosen)
            lost[chosen] = place
    ends = {stream: last for stream, (last, _at) in missing.lasts.items()}
    for stream, seq in lost.values():
        ends[stream] = max(seq, ends.get(stream, 0))
    for position in rest:
        stream, seq = missing.told.get(position, (0, 0))
        if stream in names and seq == ends.get(stream, 0) + 1:
            lost[position] = stream, seq
            ends[stream] = seq
    return lost, [position for position in rest if position not in lost]
