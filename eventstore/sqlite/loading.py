"""What a log must know before it takes its first append: its end, heads, names and counters."""

import sqlite3
from collections.abc import Iterable, Iterator

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
_SHORT = 256
_SHORT_HEADS = tuple(Head(1, seq) for seq in range(_SHORT))
"""Shared by all streams of that length: of a million streams, most are short."""
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

    The caller's transaction makes all of it one snapshot. Afterwards only the damages of `naming` may be
    used, because `names` may take over its streams. `summed`: also compute the checksums of events that are
    not indexed yet. `links`: those that are known, for the heads.

    Raises:
        Corrupt: a counter or a value of `meta` does not fit its checksum.
    """
    heads: dict[str, Head] = {}
    streams: dict[str, int] = {}
    ended = EndedFilter()
    known = links or {}
    seq_index.look(connection, unindexed, naming, summed=summed)
    numbered, pruned, has_newer = naming.streams, naming.firsts, unindexed.count > 0
    for number, has_ended, seq in _ends(connection, naming):
        name = numbered[number]
        if has_ended:
            ended.add(name)
            continue
        streams[name] = number
        first = pruned.get(number, 1)
        last = (unindexed.last(number) if has_newer else 0) or (first - 1 if seq is None else seq)
        if number in known and known[number][0] == last:
            heads[name] = Head(first, last, known[number][1])
        elif first == 1 and last < _SHORT:
            heads[name] = _SHORT_HEADS[last]
        else:
            heads[name] = Head(first, last)
    ids = {text: number for number, text in naming.texts.items()}
    if naming.is_whole and len(streams) == len(numbered):
        numbers = numbered  # taken over: with a million streams, one more dictionary would take 50 MB
    else:
        numbers = {number: name for name, number in streams.items()}
    names.replace(streams, numbers, ids, ended, naming.lost)
    counters: dict[str, int] = {}
    for counter, following, crc in connection.execute("SELECT name, next, crc FROM counter"):
        must_fit(crc, "counter", counter, following)
        counters[counter] = following
    log_id = get_meta(connection, "log")
    if log_id is None:
        raise Corrupt("the log's own value `log`", "missing")
    position, chain = select_end(connection)
    return Loaded(log_id.decode(), position, chain, heads, counters)


def _ends(connection: sqlite3.Connection, naming: Naming) -> Iterable[tuple[int, int | None, int | None]]:
    """Of each stream whether it ended, and its last seq in the table. One whose row is hurt did not end."""
    return connection.execute(_ENDS) if naming.is_whole else _ends_one_by_one(connection, naming)


def _ends_one_by_one(
    connection: sqlite3.Connection, naming: Naming
) -> Iterator[tuple[int, int | None, int | None]]:
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
