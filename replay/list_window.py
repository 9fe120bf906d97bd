"""The window of a live list: its first rows as one commit left them, and what changed since a cursor. Pure.

A reader's place in a list is a `Cursor`: the position of the commit whose rows it has, and its last row
(`bound`) if its window was full. That is all that is needed to bring it up to date, so the server keeps
nothing of a reader who is gone. `asked` says which rows to read, at one commit; `window` makes of them what
the reader is to apply: it drops, then puts, sorts, and cuts at the limit. Its rows then equal the first
`limit` rows of the list at that commit.

The notes of changed rows (`eventstore.core.row_changes`) say what to look at. If there are more of them
than are worth reading, the whole window is shorter, and is sent (`reset`).
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Final, NamedTuple

import msgspec

from huahuo.eventstore.core import row_changes
from huahuo.eventstore.model import RowRange, RowsAtOnce

LIMIT_MAX: Final = 1_000
PARTS_MAX: Final = 100
_NOTES_A_ROW: Final = 4
"""So many notes of changes are read for each row of the window: a row that changes often has several."""


class ListPlace(NamedTuple):
    """The place of a row in its list: ordered by key, then by part, both by their bytes."""

    key: bytes
    part: bytes


class ListRow(NamedTuple):
    """A row of a list. `value` is JSON."""

    place: ListPlace
    value: bytes


class ListRange(msgspec.Struct, frozen=True):
    """Which rows a list is about, and how many: those with `low` <= key <= `high` of these parts."""

    table: str
    parts: tuple[str, ...]
    limit: int
    low: bytes = b""
    high: bytes | None = None
    descending: bool = True

    @property
    def name(self) -> str:
        """The same for ranges that differ at most in the limit: `of` in the protocol."""
        what = (self.table, self.parts, self.low, self.high, self.descending)
        return blake2b(msgspec.msgpack.encode(what), digest_size=12).hexdigest()

    def holds(self, place: ListPlace) -> bool:
        """Whether such a row is one of the list."""
        return self.low <= place.key and (self.high is None or place.key <= self.high)

    def with_limit(self, limit: int) -> "ListRange":
        """The same rows, and at most so many."""
        return ListRange(self.table, self.parts, limit, self.low, self.high, self.descending)

    def shown(self, place: ListPlace) -> str | tuple[str, str]:
        """A place as messages have it: its key, with its part where the list has several."""
        return place.key.decode() if len(self.parts) == 1 else (place.key.decode(), place.part.decode())

    def place_of(self, shown: str | Sequence[str] | None) -> ListPlace | None:
        """The place that was shown like this. Raises ValueError: in this list there is none like it."""
        if shown is None:
            return None
        if isinstance(shown, str) != (len(self.parts) == 1):
            raise ValueError("a key where the list has one part, else a key and a part")
        if isinstance(shown, str):
            return ListPlace(shown.encode(), self.parts[0].encode())
        key, part = shown
        return ListPlace(key.encode(), part.encode())

    def is_behind(self, place: ListPlace, bound: ListPlace) -> bool:
        """Whether `place` comes after `bound` in the order of the list."""
        return place < bound if self.descending else place > bound


class Cursor(msgspec.Struct, frozen=True):
    """A reader's place. `bound`: the last row it has; None if it has all rows of the list."""

    position: int
    bound: ListPlace | None


class Window(msgspec.Struct, frozen=True):
    """What a reader applies. `reset`: `put` is the whole window; else what did not change stays."""

    put: list[ListRow]
    drop: list[ListPlace]
    cursor: Cursor
    reset: bool


def asked(of: ListRange, cursor: Cursor | None) -> list[RowRange]:
    """What to read, at once, for `window`."""
    windows = [RowRange(of.table, part, of.limit, of.low, of.high, of.descending) for part in of.parts]
    if cursor is None:
        return windows
    table = of.table.encode()
    horizon = RowRange(row_changes.HORIZONS, "", 1, table, table)
    notes, since = row_changes.CHANGES + of.table, row_changes.after(cursor.position)
    return [*windows, horizon, *(RowRange(notes, part, _notes_max(of), since) for part in of.parts)]


def window(of: ListRange, cursor: Cursor | None, found: RowsAtOnce) -> Window:
    """What brings a reader from `cursor` (None: it has nothing) to the commit that was read."""
    rows = _merged(of, found.rows[: len(of.parts)])[: of.limit]
    now = Cursor(found.position, rows[-1].place if len(rows) == of.limit else None)
    changed = None if cursor is None else _changed(of, cursor, found)
    if cursor is None or changed is None:
        return Window(rows, [], now, reset=True)
    bound = cursor.bound

    def is_new(place: ListPlace) -> bool:
        return bound is not None and of.is_behind(place, bound)

    here = {row.place for row in rows}
    put = [row for row in rows if row.place in changed or is_new(row.place)]
    drop = sorted(place for place in changed if place not in here and not is_new(place))
    return Window(put, drop, now, reset=False)


def _merged(of: ListRange, parts: Sequence[Sequence[tuple[bytes, bytes]]]) -> list[ListRow]:
    """The rows that were read of each part, in the order of the list."""
    return sorted(
        (
            ListRow(ListPlace(key, part.encode()), value)
            for part, some in zip(of.parts, parts, strict=True)
            for key, value in some
        ),
        reverse=of.descending,
    )


def page_ranges(of: ListRange, after: ListPlace | None) -> list[RowRange]:
    """What to read, at once, for `page`."""
    low, high = of.low, of.high
    if after is not None and of.descending:
        high = after.key if high is None else min(after.key, high)
    elif after is not None:
        low = max(after.key, low)
    count = of.limit + 2  # of each part one row may be the one that the page is behind
    return [RowRange(of.table, part, count, low, high, of.descending) for part in of.parts]


def page(of: ListRange, after: ListPlace | None, found: RowsAtOnce) -> tuple[list[ListRow], bool]:
    """The first rows behind a place (None: of all), and whether there are more."""
    behind = [row for row in _merged(of, found.rows) if after is None or of.is_behind(row.place, after)]
    return behind[: of.limit], len(behind) > of.limit


def _changed(of: ListRange, cursor: Cursor, found: RowsAtOnce) -> set[ListPlace] | None:
    """The places of the list's rows that changed since. None: not known, or more than the window has."""
    [*_, horizon], notes = found.rows[: len(of.parts) + 1], found.rows[len(of.parts) + 1 :]
    if not horizon or not int(horizon[0][1]) <= cursor.position <= found.position:
        return None
    if any(len(some) >= _notes_max(of) for some in notes):
        return None
    changed = set(_noted(of, notes))
    return None if len(changed) > of.limit else changed


def _noted(of: ListRange, notes: list[list[tuple[bytes, bytes]]]) -> Iterator[ListPlace]:
    for part, some in zip(of.parts, notes, strict=True):
        for key, _ in some:
            place = ListPlace(row_changes.noted(key)[1], part.encode())
            if of.holds(place):
                yield place


def _notes_max(of: ListRange) -> int:
    return _NOTES_A_ROW * of.limit + 1


def applied(of: ListRange, rows: list[ListRow], change: Window) -> list[ListRow]:
    """The rows of a reader after a change: as each client does it."""
    gone = {*change.drop, *(row.place for row in change.put)}
    kept = () if change.reset else (row for row in rows if row.place not in gone)
    return sorted(chain(kept, change.put), reverse=of.descending)[: of.limit]
