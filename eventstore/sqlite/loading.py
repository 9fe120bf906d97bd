"""What a log must know before it takes its first append: its end, heads, names and counters."""

import sqlite3
from collections.abc import Iterator

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.storage_port import Loaded
from huahuo.eventstore.core.sums import must_fit
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Head
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.directory_lock import Left
from huahuo.eventstore.sqlite.ended import EndedFilter
from huahuo.eventstore.sqlite.events import Names
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.naming import Naming
from huahuo.eventstore.sqlite.seq_index import Links, Unindexed
from huahuo.eventstore.sqlite.small_tables import sum_of_counters

_ENDS = (
    "SELECT id, ended.stream IS NOT NULL, CASE WHEN ended.stream IS NULL THEN"
    " (SELECT max(seq) FROM seq_index WHERE stream = stream.id) END"
    " FROM stream NOT INDEXED LEFT JOIN ended ON ended.stream = stream.id"
)
_END = "SELECT max(seq) FROM seq_index WHERE stream = ?"
_NO_LINK = (0, b"")
_IS_ENDED = "SELECT 1 FROM ended WHERE stream = ?"


def load(
    connection: sqlite3.Connection,
    names: Names,
    unindexed: Unindexed,
    naming: Naming,
    *,
    summed: bool,
    links: Links | None = None,
) -> Loaded:
    """Read the log's end, heads and counters; fill `names` and `unindexed`. One index seek per stream.

    The caller's transaction makes all of it one snapshot. `summed`: also compute the checksums of events
    that are not indexed yet. `links`: those that are known, for the heads.

    Raises:
        Corrupt: a counter or a value of `meta` does not fit its checksum.
    """
    heads: dict[str, Head] = {}
    streams: dict[str, int] = {}
    ended = EndedFilter()
    known = links or {}
    seq_index.look(connection, unindexed, naming, summed=summed)
    for number, has_ended, seq in _ends(connection, naming):
        name, first = naming.streams[number]
        if has_ended:
            ended.add(name)
            continue
        streams[name] = number
        last = unindexed.last(number) or (first - 1 if seq is None else seq)
        at, link = known.get(number, _NO_LINK)
        heads[name] = Head(first, last, link if at == last else b"")
    ids = {text: number for number, text in naming.texts.items()}
    names.replace(streams, ids, ended, naming.lost)
    counters: dict[str, int] = {}
    for counter, following, crc in connection.execute("SELECT name, next, crc FROM counter"):
        must_fit(crc, "counter", counter, following)
        counters[counter] = following
    log_id = get_meta(connection, "log")
    if log_id is None:
        raise Corrupt("the log's own value `log`", "missing")
    position, chain = select_end(connection)
    return Loaded(log_id.decode(), position, chain, heads, counters)


def _ends(connection: sqlite3.Connection, naming: Naming) -> Iterator[tuple[int, int | None, int | None]]:
    """Of each stream whether it ended, and its last seq in the table. One whose row is hurt did not end."""
    if naming.is_whole:
        yield from connection.execute(_ENDS)
        return
    for number in naming.streams:
        has_ended = number not in naming.hurt and connection.execute(_IS_ENDED, (number,)).fetchone()
        [seq] = connection.execute(_END, (number,)).fetchone()
        yield number, int(bool(has_ended)), seq


def select_end(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """The last position and its link of the chain."""
    sql = "SELECT position, chain FROM event ORDER BY position DESC LIMIT 1"
    row: tuple[int, bytes] | None = connection.execute(sql).fetchone()
    return row or (0, GENESIS)


def note_of_end(connection: sqlite3.Connection, log_id: str) -> Left:
    """What a clean close notes of the log."""
    position, chain = select_end(connection)
    counters = dict(connection.execute("SELECT name, next FROM counter"))
    return Left(log=log_id, position=position, chain=chain.hex(), counters=sum_of_counters(counters))
