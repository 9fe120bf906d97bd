"""The check of a log's newest events against the hash chain, at every opening."""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from copy import copy

from huahuo.eventstore.core.chain import GENESIS, merged, misfits
from huahuo.eventstore.core.place import Loaded, Place
from huahuo.eventstore.errors import Corrupt, Damaged
from huahuo.eventstore.model import Head, StoredEvent, Tombstone
from huahuo.eventstore.sqlite.directory_lock import Left
from huahuo.eventstore.sqlite.ended import select_head, select_number
from huahuo.eventstore.sqlite.events import EVENTS_BY_POSITION, select_events, select_tombstones
from huahuo.eventstore.sqlite.faults import translated
from huahuo.eventstore.sqlite.names import Names
from huahuo.eventstore.sqlite.unindexed import Unindexed

TAIL_EVENTS = 1000
"""How many of the last events are checked against the hash chain at every opening."""
NOT_INDEXED = "it is not in the index by stream and seq"


def _with_stand_ins(names: Names) -> Names:
    """`names`, with a text for each number that has none: such an event does not fit the chain."""
    found = copy(names)
    found.texts = defaultdict(str, names.texts)
    return found


def _check_tail(
    connection: sqlite3.Connection, names: Names, unindexed: Unindexed, loaded: Loaded
) -> list[Corrupt]:
    """Check the last events against the chain, starting from the link before them.

    An event that does not fit is returned, since undamaged streams can go on. A lost event, or a head that
    is too low, would make new events wrong, and raises Damaged.
    """
    start = max(0, loaded.position - TAIL_EVENTS)
    chain = GENESIS
    if start:
        sql = "SELECT chain FROM {} WHERE position = :at"
        sql = f"{sql.format('event')} UNION ALL {sql.format('pruned')}"
        row = connection.execute(sql, {"at": start}).fetchone()
        if row is None:
            raise Damaged(start, "missing")
        chain = row[0]
    bounds = (start, loaded.position, TAIL_EVENTS)
    known = _with_stand_ins(names)
    tail = select_events(connection, known, EVENTS_BY_POSITION, bounds, 1 << 62).events
    pruned: list[Tombstone] = []
    if len(tail) < loaded.position - start:
        pruned = select_tombstones(connection, known, start, loaded.position, TAIL_EVENTS)
    found = [
        Corrupt(f"stream {event.stream}", "the event does not fit the hash chain", position=event.position)
        for event in misfits(chain, start, {}, merged(tail, pruned))
    ]
    unproven = {damage.position for damage in found}
    place = loaded.place()
    for event in tail:
        if event.position in unproven:
            continue
        head = place.head(event.stream)
        if head is None and (number := select_number(connection, event.stream)) is not None:
            head = select_head(connection, unindexed, number, loaded.position)
        if head is None or head.seq < event.seq:
            raise Damaged(event.position, NOT_INDEXED)
    if not found:
        _note_links(tail, place)
    return found


def _note_links(proven: Sequence[StoredEvent], place: Place) -> None:
    """Keep the links of the newest events in memory: each client that comes back needs that of its stream."""
    for event in proven:
        head = place.head(event.stream)
        if head is not None and head.seq == event.seq and not head.link:
            place.heads[event.stream] = Head(head.first, head.seq, event.chain)
            place.packed.drop(event.stream)


def tail_damage(
    connection: sqlite3.Connection, names: Names, unindexed: Unindexed, loaded: Loaded, left: Left | None
) -> list[Corrupt]:
    """As `_check_tail`, but events that cannot be read are only noted if the log was closed at this position.

    Then its index holds every head, and no number can be given out again.
    """
    try:
        return _check_tail(connection, names, unindexed, loaded)
    except (Damaged, sqlite3.DatabaseError) as error:
        closed_here = left is not None and not left.pid and left.position == loaded.position
        damage = translated(error) if isinstance(error, sqlite3.Error) else error
        if not closed_here or not isinstance(damage, Damaged) or damage.reason == NOT_INDEXED:
            raise
        return [Corrupt("one of the newest events", damage.reason, position=damage.position)]
