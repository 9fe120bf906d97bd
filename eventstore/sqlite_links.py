"""Reading links of the hash chain by stream and seq from SQLite: one statement for many places."""

import sqlite3
from collections.abc import Sequence

import msgspec

from eventstore.seq_index import Unindexed

LINKS_BY_SEQ = (
    "SELECT asked.key, event.chain FROM json_each(?) AS asked"
    " CROSS JOIN seq_index AS found"
    " ON found.stream = json_extract(asked.value, '$[0]') AND found.seq = json_extract(asked.value, '$[1]')"
    " CROSS JOIN event ON event.position = found.position"
    " AND event.stream = found.stream AND event.seq = found.seq"
)
LINKS_AT = (
    "SELECT asked.key, event.chain, event.stream, event.seq FROM json_each(?) AS asked"
    " CROSS JOIN event ON event.position = asked.value"
)


def select_links(
    connection: sqlite3.Connection, unindexed: Unindexed, places: Sequence[tuple[int, int]]
) -> list[bytes | None]:
    """The link at each (stream, seq). A row that holds another event than the one asked for is no answer."""
    # Before the table is asked, see `Unindexed`.
    positions = [unindexed.position(stream, seq) for stream, seq in places]
    found: list[bytes | None] = [None] * len(places)
    in_table = [index for index, position in enumerate(positions) if position is None]
    if in_table:
        asked = msgspec.json.encode([places[index] for index in in_table]).decode()
        for key, chain in connection.execute(LINKS_BY_SEQ, (asked,)):
            found[in_table[key]] = chain
    if len(in_table) < len(places):
        asked = msgspec.json.encode(positions).decode()
        for key, chain, stream, seq in connection.execute(LINKS_AT, (asked,)):
            if places[key] == (stream, seq):
                found[key] = chain
    return found


def select_links_at(connection: sqlite3.Connection, positions: Sequence[int]) -> list[bytes | None]:
    """The link at each position."""
    found: list[bytes | None] = [None] * len(positions)
    asked = msgspec.json.encode(positions).decode()
    for key, chain, _stream, _seq in connection.execute(LINKS_AT, (asked,)):
        found[key] = chain
    return found
