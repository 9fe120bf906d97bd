"""Reading many short streams from their beginning with few statements.

What is found is proven as that of one stream: each seq once, and each event by the hash chain. A stream for
which that does not hold is left to be read by itself, which then says what is wrong. So is one with a large
event: many rows are in memory at once, before their sizes are known.
"""

import sqlite3
from collections.abc import Sequence
from operator import attrgetter

from huahuo.eventstore.core.storage_port import Span
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.sqlite.events import EVENT_COLUMNS, EVENTS_AT, Names, prove_events, select_events
from huahuo.eventstore.sqlite.pages import Asked, as_json

_FROM_THEIR_BEGINNING = (
    f"SELECT {EVENT_COLUMNS} FROM (SELECT value AS stream FROM json_each(?)) AS asked"  # noqa: S608  constant
    " CROSS JOIN seq_index AS found ON found.stream = asked.stream AND found.seq <= ?"
    " CROSS JOIN event ON event.position = found.position"
    " AND event.stream = found.stream AND event.seq = found.seq AND length(event.body) <= ?"
)
_AT = EVENTS_AT.replace(" ORDER", " AND length(body) <= ? ORDER")
_BODY_BYTES_MAX = 32 << 10
_position = attrgetter("position")


def select_short(
    connection: sqlite3.Connection, names: Names, spans: Sequence[Span], asked: Sequence[Asked]
) -> list[list[StoredEvent] | None]:
    """All events of each span. None: it must be read by itself. `asked`: the same as numbers.

    Of several spans of one stream, one is read here.
    """
    found: dict[str, list[StoredEvent]] = {}
    indexed: dict[str, int] = {}
    places: list[int] = []
    numbers, longest, positions, bytes_max = [], 0, list[int](), 0
    for place, (span, page) in enumerate(zip(spans, asked, strict=True)):
        if page.stream and not span.after and span.events_max >= span.upto and span.stream not in found:
            places.append(place)
            found[span.stream] = []
            indexed[span.stream] = page.upto
            bytes_max += span.bytes_max
            positions += page.positions
            if page.upto:
                numbers.append(page.stream)
                longest = max(longest, page.upto)
    whole: list[list[StoredEvent] | None] = [None] * len(spans)
    events: list[StoredEvent] = []
    try:
        if numbers:
            bounds = (as_json(numbers), longest, _BODY_BYTES_MAX)
            there = select_events(connection, names, _FROM_THEIR_BEGINNING, bounds, bytes_max)
            events += [event for event in there if event.seq <= indexed[event.stream]]
        if positions:
            at = (as_json(positions), _BODY_BYTES_MAX, len(positions))
            events += select_events(connection, names, _AT, at, bytes_max)
        events.sort(key=_position)
        prove_events(connection, names, events)
    except Corrupt:
        return whole
    for event in events:
        found[event.stream].append(event)
    for place in places:
        whole[place] = _whole(spans[place], found[spans[place].stream])
    return whole


def _whole(span: Span, events: list[StoredEvent]) -> list[StoredEvent] | None:
    """The events, if they are all of the span and not too large."""
    if not events or len(events) != span.upto or events[-1].seq != span.upto:
        return None
    return events if sum(len(event.body) for event in events) <= span.bytes_max else None
