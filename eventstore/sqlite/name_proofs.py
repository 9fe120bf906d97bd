"""Whether a stream has a name: the hash chain over one of its events holds with no other."""

import contextlib
import sqlite3
from collections.abc import Mapping

from huahuo.eventstore.core.chain import GENESIS, link
from huahuo.eventstore.sqlite.salvage import FAULTS, until_fault

EVENTS_ASKED = 4
"""A name is proven by one event of its stream. Some more, in case that one is damaged itself."""
_EVENT = (
    "SELECT position, seq, type, body, version, ts, entity, principal, command_id, cause, build, chain"
    " FROM event WHERE position = ?"
)
INDEXED = (
    "(SELECT coalesce((SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM meta WHERE key = 'indexed'),"
    " max(position)) FROM event)"
)
"""The position up to which `seq_index` has every event."""
PLACES = (
    "SELECT position FROM seq_index WHERE stream = ? ORDER BY seq LIMIT ?",
    f"SELECT position FROM event WHERE stream = ? AND position > {INDEXED} ORDER BY position LIMIT ?",  # noqa: S608  constants
)
_FIRSTS = (
    "SELECT min(seq) FROM seq_index WHERE stream = ?",
    f"SELECT min(seq) FROM event WHERE stream = ? AND position > {INDEXED}",  # noqa: S608  constants
    "SELECT max(seq) + 1 FROM pruned WHERE stream = ?",
)


def first_of(connection: sqlite3.Connection, number: int) -> int:
    """The oldest seq that is kept of a stream, or the next one if all were pruned."""
    for sql in _FIRSTS:
        with contextlib.suppress(*FAULTS):
            [found] = connection.execute(sql, (number,)).fetchone()
            if found is not None:
                return int(found)
    return 1


def proves(connection: sqlite3.Connection, texts: Mapping[int, str], number: int, name: str) -> bool:
    """Whether the hash chain over an event of stream `number` holds with this name."""
    for sql in PLACES:
        for (position,) in until_fault(connection, sql, (number, EVENTS_ASKED))[0]:
            with contextlib.suppress(*FAULTS):
                if holds(connection, texts, position, name):
                    return True
    return False


def holds(connection: sqlite3.Connection, texts: Mapping[int, str], position: int, name: str) -> bool:
    """Whether the hash chain over the event at `position` holds with this name of its stream."""
    row = connection.execute(_EVENT, (position,)).fetchone()
    if row is None or row[2] not in texts or row[10] not in texts:
        return False
    before = GENESIS
    if position > 1:
        sql = "SELECT chain FROM {} WHERE position = :at"
        sql = f"{sql.format('event')} UNION ALL {sql.format('pruned')}"
        [before] = connection.execute(sql, {"at": position - 1}).fetchone() or [b""]
    _, seq, type_, body, version, ts, entity, who, command, cause, build, chain = row
    facts = (
        position, name, seq, texts[type_], body, version, ts, entity, who, command, cause, texts[build],
    )  # fmt: skip
    return link(before, facts) == bytes(chain)
