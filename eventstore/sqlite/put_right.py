"""Events and tombstones of which a column was changed that says where they belong, put right in the file.

That is the position, the stream, the seq or the link. The hash chain covers all of them, so a value that
makes it hold is the one that was written.
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Final

import structlog

from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.sqlite.connecting import connect_writer
from huahuo.eventstore.sqlite.loss import untouched
from huahuo.eventstore.sqlite.made_anew import made_by
from huahuo.eventstore.sqlite.mark import Mark
from huahuo.eventstore.sqlite.naming import Naming, read_naming
from huahuo.eventstore.sqlite.old_formats import is_old
from huahuo.eventstore.sqlite.proofs import Proofs
from huahuo.eventstore.sqlite.row_links import Mend
from huahuo.eventstore.sqlite.salvage import FAULTS
from huahuo.eventstore.sqlite.wal_frames import read_frames

PLACE: Final = "the place of an event"
_NOWHERE: Final = -(1 << 62)
"""The first of the positions that rows have while others take theirs."""

_log = structlog.get_logger(__name__)


def put_right(path: Path, marks: Sequence[Mark], *, whole: bool = False) -> Corrupt | None:
    """Mend what can be proven among the newest events, or with `whole` among all.

    Returns what was wrong, None if nothing was mended. No connection to the file may be open in this process.
    """
    if not path.exists():
        return None
    frames = read_frames(path.with_name(f"{path.name}-wal"))
    if frames.bad or frames.header_bad:
        return None  # the newest rows may be in frames that SQLite does not read
    try:
        with untouched(path) as connection:
            mends = find_mends(connection, read_naming(connection, whole=False), marks, whole=whole)
        if not mends:
            return None
        with contextlib.closing(connect_writer(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for table, position, column, value in _in_order(mends):
                sql = f"UPDATE {table} SET {column} = ? WHERE position = ?"  # noqa: S608  constants
                connection.execute(sql, (value, position))
            connection.execute("COMMIT")
    except (EventStoreError, *FAULTS):
        return None
    _log.warning("events_put_right", count=len(mends), first=mends[0].position, column=mends[0].column)
    return Corrupt(PLACE, _say(mends))


def _in_order(mends: Sequence[Mend]) -> list[Mend]:
    """First positions, by way of others that no row has, since rows may take each other's."""
    moves = [mend for mend in mends if mend.column == "position"]
    away = [Mend(one.table, one.position, "position", at) for one, at in zip(moves, count(_NOWHERE))]
    back = [Mend(one.table, at, "position", one.value) for one, at in zip(moves, count(_NOWHERE))]
    return [*away, *back, *(mend for mend in mends if mend.column != "position")]


def _say(mends: Sequence[Mend]) -> str:
    first = mends[0]
    what = "event" if first.table == "event" else "tombstone"
    more = f", and {len(mends) - 1} more," if len(mends) > 1 else ""
    column = "link" if first.column == "chain" else first.column
    return f"the {column} of the {what} at {first.position}{more} was changed; the hash chain put it right"


def positions_mended(connection: sqlite3.Connection, naming: Naming, marks: Sequence[Mark]) -> frozenset[int]:
    """The positions at which an event does not fit, and will once all is put right."""
    if is_old(connection) or not made_by(connection, "event"):
        return frozenset()
    proofs = Proofs(connection, naming, marks)
    mends = proofs.run(whole=True)
    return frozenset(position for mend in mends for position in mend.positions) - proofs.unfit.keys()


def find_mends(
    connection: sqlite3.Connection, naming: Naming, marks: Sequence[Mark] = (), *, whole: bool = False
) -> list[Mend]:
    """What makes the hash chain hold, and where rows belong of which nothing proves that."""
    if is_old(connection) or not made_by(connection, "event"):
        return []
    return Proofs(connection, naming, marks).run(whole=whole)
