"""What a log must know before it takes its first append: its end, heads, names and counters."""

import sqlite3

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.storage_port import Loaded
from huahuo.eventstore.core.sums import must_fit
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Head
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.ended import EndedFilter
from huahuo.eventstore.sqlite.events import Names
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.seq_index import Unindexed

_STREAMS = (
    "SELECT id, name, first, crc, ended.stream IS NOT NULL, CASE WHEN ended.stream IS NULL THEN"
    " (SELECT max(seq) FROM seq_index WHERE stream = stream.id) END"
    " FROM stream LEFT JOIN ended ON ended.stream = stream.id"
)


def load(connection: sqlite3.Connection, names: Names, unindexed: Unindexed, *, summed: bool) -> Loaded:
    """Read the log's end, heads and counters; fill `names` and `unindexed`. One index seek per stream.

    The caller's transaction makes all of it one snapshot. `summed`: also compute the checksums of events
    that are not indexed yet.

    Raises:
        Corrupt: a row does not fit its checksum.
    """
    heads: dict[str, Head] = {}
    streams: dict[str, int] = {}
    ended = EndedFilter()
    seq_index.look(connection, unindexed, summed=summed)
    for number, name, first, crc, has_ended, seq in connection.execute(_STREAMS):
        must_fit(crc, "stream", number, name, first)
        if has_ended:
            ended.add(name)
            continue
        streams[name] = number
        heads[name] = Head(first, unindexed.last(number) or (first - 1 if seq is None else seq))
    ids: dict[str, int] = {}
    for number, text, crc in connection.execute("SELECT id, text, crc FROM name"):
        must_fit(crc, "name", number, text)
        ids[text] = number
    names.replace(streams, ids, ended)
    counters: dict[str, int] = {}
    for counter, following, crc in connection.execute("SELECT name, next, crc FROM counter"):
        must_fit(crc, "counter", counter, following)
        counters[counter] = following
    log_id = get_meta(connection, "log")
    if log_id is None:
        raise Corrupt("the log's own value `log`", "missing")
    position, chain = select_end(connection)
    return Loaded(log_id.decode(), position, chain, heads, counters)


def select_end(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """The last position and its link of the chain."""
    sql = "SELECT position, chain FROM event ORDER BY position DESC LIMIT 1"
    row: tuple[int, bytes] | None = connection.execute(sql).fetchone()
    return row or (0, GENESIS)
