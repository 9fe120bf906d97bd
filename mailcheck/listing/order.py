"""Rows in the order of one field, a page at a time. Pure."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import batched, islice
from typing import Final

import msgspec

from huahuo.mailcheck.row import Row

EXAMINED_MAX: Final = 10_000
"""Rows that one page examines. If a filter admits few of them, the page is short and `next` continues."""
_BUCKET_ROWS = 1_024
"""Rows handled in one step of sorting: less than half a millisecond."""
_SAMPLES_PER_BUCKET = 32
_PUT_RIGHT_AT_ONCE = 1_000

type Key = str | int
type Entry = tuple[Key, int]
"""A row's key and its id, which settles ties."""


class Page(msgspec.Struct, frozen=True):
    """Some rows, and the entry after which the next page begins, None at the end."""

    rows: list[Row]
    after: Entry | None


class Order:
    """The entries of all rows, sorted by one field, kept up to date.

    All work is done in small steps: call `step` until it is `ready`. Rows may change meanwhile: `changed`
    notes the change, and a later step applies it. Sorting distributes the entries over buckets, whose
    bounds are sampled entries, then sorts each bucket. A change touches one or two buckets.
    """

    __slots__ = ("_buckets", "_changes", "_count", "_key", "_moved", "_sorting", "_splits")

    def __init__(self, field: str, rows: Sequence[Row]) -> None:
        self._key = KEYS[field]
        self._count = len(rows)
        self._changes = 0
        self._splits: list[Entry] = []
        self._buckets: list[list[Entry]] = [[]]
        self._moved: dict[int, tuple[Entry | None, Entry | None]] = {}
        self._sorting: Iterator[None] | None = self._sort(rows)

    @property
    def ready(self) -> bool:
        """Whether a page can be read now."""
        return self._sorting is None and len(self._moved) <= _PUT_RIGHT_AT_ONCE

    @property
    def worn(self) -> bool:
        """Whether the buckets may differ greatly in size, after many changes."""
        return self._changes > self._count + _BUCKET_ROWS

    def step(self) -> None:
        """Do one step of the outstanding work. Any caller that waits for the order may call it."""
        if self._sorting is None:
            self._put_right()
        elif next(self._sorting, self) is self:
            self._sorting = None

    def _sort(self, rows: Sequence[Row]) -> Iterator[None]:
        key = self._key
        entries: list[Entry] = []
        for some in batched(rows, _BUCKET_ROWS):
            entries += [(key(row), row.id) for row in some]
            yield
        count = len(entries) // _BUCKET_ROWS
        if count:
            samples = sorted(entries[:: max(1, len(entries) // (count * _SAMPLES_PER_BUCKET))])
            self._splits = [samples[len(samples) * n // (count + 1)] for n in range(1, count + 1)]
            self._buckets = [[] for _ in range(count + 1)]
        splits, buckets = self._splits, self._buckets
        for slice_ in batched(entries, _BUCKET_ROWS):
            for entry in slice_:
                buckets[bisect_right(splits, entry)].append(entry)
            yield
        for bucket in buckets:
            bucket.sort()
            yield

    def changed(self, old: Row | None, new: Row | None) -> None:
        """A row came, went or was replaced."""
        was = None if old is None else (self._key(old), old.id)
        now = None if new is None else (self._key(new), new.id)
        if was != now:
            number = (was or now or ("", 0))[1]
            self._moved[number] = (self._moved.get(number, (was, None))[0], now)

    def page(
        self,
        rows: Mapping[int, Row],
        *,
        limit: int,
        after: Entry | None = None,
        descending: bool = False,
        admits: Callable[[Row], bool] | None = None,
    ) -> Page:
        """At most `limit` rows after `after`. Call only while the order is `ready`."""
        self._put_right()
        found: list[Row] = []
        last: Entry | None = None
        following = self._down(after) if descending else self._up(after)
        for examined, entry in enumerate(following):
            if len(found) == limit or examined == EXAMINED_MAX:
                return Page(found, last)
            row, last = rows[entry[1]], entry
            if admits is None or admits(row):
                found.append(row)
        return Page(found, None)

    def _up(self, after: Entry | None) -> Iterator[Entry]:
        at = 0 if after is None else bisect_right(self._splits, after)
        begin = 0 if after is None else bisect_right(self._buckets[at], after)
        for bucket in islice(self._buckets, at, None):
            yield from islice(bucket, begin, None)
            begin = 0

    def _down(self, after: Entry | None) -> Iterator[Entry]:
        at = len(self._splits) if after is None else bisect_right(self._splits, after)
        end = len(self._buckets[at]) if after is None else bisect_left(self._buckets[at], after)
        for number in range(at, -1, -1):
            bucket = self._buckets[number]
            for index in range(end - 1 if number == at else len(bucket) - 1, -1, -1):
                yield bucket[index]

    def _put_right(self) -> None:
        """Apply at most `_PUT_RIGHT_AT_ONCE` noted changes."""
        for number in list(islice(self._moved, _PUT_RIGHT_AT_ONCE)):
            was, now = self._moved.pop(number)
            self._changes += 1
            if was is not None:
                bucket = self._buckets[bisect_right(self._splits, was)]
                del bucket[bisect_left(bucket, was)]
            if now is not None:
                insort(self._buckets[bisect_right(self._splits, now)], now)


def _email(row: Row) -> Key:
    lower = row.email.lower()
    return row.email if lower == row.email else lower  # mostly equal, then one string serves both


KEYS: Final[Mapping[str, Callable[[Row], Key]]] = {
    "id": lambda row: row.id,
    "email": _email,
    "status": lambda row: row.status,
    "last_check_time": lambda row: row.last_check_time or "",
    "mail_count": lambda row: row.mail_count,
    "created_at": lambda row: row.created_at,
}
"""The sort key of a row, by field."""
