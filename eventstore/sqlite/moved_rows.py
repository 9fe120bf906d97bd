"""Events and tombstones whose position was changed, or that exchanged their positions."""

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from typing import Final

from huahuo.eventstore.sqlite.row_links import COLUMNS, TOMBSTONE_COLUMNS, Mend, Row, RowLinks

_STRAYS_MAX: Final = 64
"""Of more rows whose position cannot be theirs, none is moved; and of more that do not fit, none is tried at
the position of another."""
_STRAY_EVENTS: Final = (
    f"SELECT {COLUMNS} FROM event WHERE position < 1 OR position > :count"  # noqa: S608  constant
    f" UNION SELECT {COLUMNS} FROM event WHERE position IN (SELECT position FROM pruned) LIMIT :most"
)
_STRAY_TOMBSTONES: Final = (
    "SELECT position, stream, seq, chain FROM pruned WHERE position < 1 OR position > :count"
    " UNION SELECT position, stream, seq, chain FROM pruned WHERE position IN (SELECT position FROM event)"
    " LIMIT :most"
)
_TAKEN: Final = (
    "SELECT position FROM event WHERE position BETWEEN 1 AND :count UNION"
    " SELECT position FROM pruned WHERE position BETWEEN 1 AND :count ORDER BY position"
)
_POSITION: Final = "SELECT position FROM seq_index WHERE stream = ? AND seq = ?"


class Moved:
    """`rows`: those that are moved, with the position that they must have; `strays`: where they are now."""

    def __init__(self, connection: sqlite3.Connection, links: RowLinks, count: int) -> None:
        self._connection = connection
        self._links = links
        self.mends: list[Mend] = []
        self.rows: list[Row] = []
        self.strays: set[tuple[int, int]] = set()
        asked = {"count": count, "most": _STRAYS_MAX + 1}
        strays = [row for sql in (_STRAY_EVENTS, _STRAY_TOMBSTONES) for row in connection.execute(sql, asked)]
        if strays and len(strays) <= _STRAYS_MAX:
            self.strays = {(row[0], len(row)) for row in strays}
            holes = self._holes(count)
            self._move(strays, holes, count + len(holes))

    def _move(self, rest: list[Row], holes: list[int], last: int) -> None:
        left: list[int] = []
        for hole in holes:
            found = next((row for row in rest if self._belongs(row, hole)), None)
            if found is None:
                left.append(hole)
                continue
            self._put(found, hole)
            rest = [row for row in rest if row is not found]
        if len(rest) == len(left) == 1 and not self._may_stay(rest[0], last):
            self._put(rest[0], left[0])  # nothing else is missing, whatever was changed in it

    def _may_stay(self, row: Row, last: int) -> bool:
        """Whether an event may be the newest of a log in which others are lost."""
        return len(row) != TOMBSTONE_COLUMNS and 0 < row[0] <= last

    def _put(self, row: Row, hole: int) -> None:
        table = "pruned" if len(row) == TOMBSTONE_COLUMNS else "event"
        self.mends.append(Mend(table, row[0], "position", hole))
        self.rows.append((hole, *row[1:]))

    def _holes(self, count: int) -> list[int]:
        holes: list[int] = []
        last = 0
        taken = (position for (position,) in self._connection.execute(_TAKEN, {"count": count}))
        for position in chain(taken, (count + 1,)):
            holes += islice(range(last + 1, position), _STRAYS_MAX + 1 - len(holes))
            last = position
        return holes

    def _belongs(self, row: Row, hole: int) -> bool:
        """By its own link, or by the event behind it."""
        links, following = self._links, self._links.event(hole + 1)
        if len(row) == TOMBSTONE_COLUMNS:
            return links.leads(row[-1], following)
        before = links.at(hole - 1)
        return before is not None and (
            (linked := links.of(before, row, position=hole)) == row[-1]
            or links.leads(linked, following)
            or (isinstance(row[-1], bytes) and links.leads(row[-1], following))
        )


def exchanged(connection: sqlite3.Connection, links: RowLinks, unfit: Mapping[int, Row]) -> list[Mend]:
    """Of the events `unfit`, by position, those that fit at the position of another one."""
    if len(unfit) > _STRAYS_MAX:
        return []
    goes: dict[int, int] = {}
    for position, row in unfit.items():
        for other in (*unfit, *_indexed(connection, row)):
            before = links.at(other - 1) if other != position and other > 0 else None
            if before is not None and links.of(before, row, position=other) == row[-1]:
                goes[position] = other
                break
    sources, targets = goes.keys() - set(goes.values()), set(goes.values()) - goes.keys()
    if len(sources) == len(targets) == 1:  # it cannot be proven before the other is in its place
        goes[targets.pop()] = sources.pop()
    if not goes or goes.keys() != set(goes.values()):
        return []
    return [Mend("event", position, "position", other) for position, other in goes.items()]


def _indexed(connection: sqlite3.Connection, row: Row) -> Iterable[int]:
    return (position for (position,) in connection.execute(_POSITION, row[1:3]).fetchall())
