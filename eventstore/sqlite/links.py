"""The positions of events in SQLite by stream and seq: one statement for many places."""

import sqlite3
from collections.abc import Sequence

import msgspec

from huahuo.eventstore.sqlite.unindexed import Unindexed

POSITIONS_BY_SEQ = (
    "SELECT asked.key, found.position FROM json_each(?) AS asked CROSS JOIN seq_index AS found"
    " ON found.stream = json_extract(asked.value, '$[0]') AND found.seq = json_extract(asked.value, '$[1]')"
)


def select_positions(
    connection: sqlite3.Connection, unindexed: Unindexed, places: Sequence[tuple[int, int]]
) -> list[int]:
    """The position of the event at each (stream, seq), 0 where there is none.

    If the index is damaged, a position may be that of another event.
    """
    # Before the query of the table, see `Unindexed`.
    positions = [unindexed.position(stream, seq) for stream, seq in places]
    in_table = [index for index, position in enumerate(positions) if not position]
    if in_table:
        asked = msgspec.json.encode([places[index] for index in in_table]).decode()
        for key, position in connection.execute(POSITIONS_BY_SEQ, (asked,)):
            positions[in_table[key]] = position
    return positions
