"""Lists of mailboxes: all of them in parts, or a page at a time in some order (PROTOCOL 6, 12). Pure.

Rows are never changed, only replaced, so a tuple of them is the state of one moment.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import batched
from typing import Final

import msgspec

from mailcheck.replies import EmailsList
from mailcheck.rows import Roster, Row

PAGE_ROWS_MAX: Final = 2_000
EXAMINED_MAX: Final = 10_000
"""Rows that one page looks at. Where a filter lets few through, the page is short and `next` goes on."""
ORDERS_MAX: Final = 2
"""Orders kept per roster, 64 to 130 bytes a mailbox each; the one used longest ago gives way."""
_SLICE_ROWS = 256
_SORTED_AT_ONCE = 8_192
_REPAIRED_ONE_BY_ONE_MAX = 256

type Key = str | int
type Entry = tuple[Key, int]
"""A row's key and its id, which settles ties."""


class RowsCut:
    """A JSON object with a list of rows in it: `head`, the rows, `tail`. See `transport.parts.Parted`."""

    __slots__ = ("_head", "_rows", "_tail")

    def __init__(self, head: bytes, rows: Sequence[Row], tail: bytes) -> None:
        self._head = head
        self._rows = rows
        self._tail = tail

    def whole(self, bytes_max: int) -> bytes | None:
        """All of it; None if it is longer than `bytes_max`."""
        whole, more = next(self.parts(bytes_max))
        return None if more or len(whole) > bytes_max else whole

    def parts(self, bytes_max: int) -> Iterator[tuple[bytes, bool]]:
        """Each ends at the first slice of rows that takes it to `bytes_max`."""
        slices = batched(self._rows, _SLICE_ROWS)
        following = next(slices, ())
        more = True
        while more:
            pieces: list[bytes] = []
            size = 0
            while following and size < bytes_max:
                piece = msgspec.json.encode(following)[1:-1]
                pieces.append(piece)
                size += len(piece) + 1
                following = next(slices, ())
            more = bool(following)
            yield b"%b%b%b" % (self._head, b",".join(pieces), self._tail), more


def rows_by_id(rows: Mapping[int, Row]) -> tuple[Row, ...]:
    """The rows of now, by ascending id."""
    return tuple(rows[number] for number in sorted(rows))


class Sort(msgspec.Struct, frozen=True):
    """By which field, and which way. Ties go by id, the same way."""

    field: str = "id"
    descending: bool = False

    @classmethod
    def of(cls, text: str) -> "Sort | None":
        """`email`, `-last_check_time`; None: there is no such order."""
        field = text.removeprefix("-")
        return cls(field, field != text) if field in KEYS else None


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a row must be to be listed: everything that is given holds.

    `text` is looked for in address, server and message, whatever the case of its letters.
    """

    status: str | tuple[str, ...] | None = None
    mail_type: str | tuple[str, ...] | None = None
    text: str = ""

    def admits(self) -> Callable[[Row], bool] | None:
        """The test; None where every row passes."""
        statuses, types, text = _set(self.status), _set(self.mail_type), self.text.lower()
        if statuses is None and types is None and not text:
            return None

        def test(row: Row) -> bool:
            return (
                (statuses is None or row.status in statuses)
                and (types is None or row.mail_type in types)
                and (
                    not text
                    or text in row.email.lower()
                    or text in row.message.lower()
                    or text in row.server.lower()
                )
            )

        return test


class Page(msgspec.Struct, frozen=True):
    """Some rows, and behind which entry the next ones come; None at the end."""

    rows: list[Row]
    after: Entry | None


class Order:
    """The entries of all rows, sorted by one field, kept up to date.

    It is sorted once, in slices (`step`), while rows go on changing: what changes (`changed`) is noted
    and put right when the next page is read.
    """

    __slots__ = ("_entries", "_key", "_moved", "_sorting")

    def __init__(self, field: str, rows: Sequence[Row]) -> None:
        self._key = KEYS[field]
        self._entries: list[Entry] | None = None
        self._moved: dict[int, Entry | None] = {}
        self._sorting = self._sort(rows)

    @property
    def ready(self) -> bool:
        """Whether it is sorted."""
        return self._entries is not None

    def step(self) -> None:
        """Sort a little; until it is `ready`. Whoever waits for it may do that."""
        next(self._sorting, None)

    def _sort(self, rows: Sequence[Row]) -> Iterator[None]:
        key = self._key
        runs: list[list[Entry]] = []
        for some in batched(rows, _SORTED_AT_ONCE):
            runs.append(sorted([(key(row), row.id) for row in some]))
            yield
        while len(runs) > 1:
            merged: list[list[Entry]] = []
            for pair in batched(runs, 2):
                run = [entry for one in pair for entry in one]
                run.sort()  # finds the two runs and merges them
                merged.append(run)
                yield
            runs = merged
        self._entries = runs[0] if runs else []

    def changed(self, old: Row | None, new: Row | None) -> None:
        """A row came, went or was replaced."""
        was = None if old is None else (self._key(old), old.id)
        now = None if new is None else (self._key(new), new.id)
        if was != now:
            number = (was or now or ("", 0))[1]
            self._moved.setdefault(number, was)

    def page(
        self,
        rows: Mapping[int, Row],
        *,
        limit: int,
        after: Entry | None = None,
        descending: bool = False,
        admits: Callable[[Row], bool] | None = None,
    ) -> Page:
        """At most `limit` rows behind `after`."""
        entries = self._repaired(rows)
        if descending:
            begin = len(entries) - 1 if after is None else bisect_left(entries, after) - 1
            end, step = max(-1, begin - EXAMINED_MAX), -1
            last = -1
        else:
            begin = 0 if after is None else bisect_right(entries, after)
            end, step = min(len(entries), begin + EXAMINED_MAX), 1
            last = len(entries)
        found: list[Row] = []
        at = begin
        while at != end and len(found) < limit:
            row = rows[entries[at][1]]
            if admits is None or admits(row):
                found.append(row)
            at += step
        return Page(found, entries[at - step] if at != last else None)

    def _repaired(self, rows: Mapping[int, Row]) -> list[Entry]:
        entries, moved, key = self._entries, self._moved, self._key
        assert entries is not None, "it is sorted first"
        if not moved:
            return entries
        new = [(key(row), number) for number in moved if (row := rows.get(number)) is not None]
        if len(moved) <= _REPAIRED_ONE_BY_ONE_MAX:
            for was in moved.values():
                if was is not None:
                    del entries[bisect_left(entries, was)]
            for entry in new:
                insort(entries, entry)
        else:
            entries[:] = [entry for entry in entries if entry[1] not in moved]
            entries += new
            entries.sort()
        moved.clear()
        return entries


def order_of(state: Roster, field: str) -> Order:
    """The order of a roster's rows by this field; perhaps it is still to be sorted."""
    watchers = state.watchers
    order = watchers.pop(field, None)
    if not isinstance(order, Order):
        order = Order(field, tuple(state.rows.values()))
        while len(watchers) >= ORDERS_MAX:
            del watchers[next(iter(watchers))]
    watchers[field] = order  # the newest is the last to go
    return order


def snapshot_of(state: Roster) -> RowsCut:
    """The state of a snapshot of `user/<id>` (PROTOCOL 2)."""
    return RowsCut(b'{"emails":[', rows_by_id(state.rows), b"]}")


def list_of(state: Roster, stream: str, seq: int) -> RowsCut:
    """The `emails_list` of everything: a consistent cut."""
    whole = msgspec.json.encode(EmailsList(msgspec.Raw(b"[]"), stream, seq))
    head, tail = whole.split(b"[]", 1)
    return RowsCut(head + b"[", rows_by_id(state.rows), b"]" + tail)


def _email(row: Row) -> Key:
    lower = row.email.lower()
    return row.email if lower == row.email else lower  # most are, and are not kept twice


KEYS: Final[Mapping[str, Callable[[Row], Key]]] = {
    "id": lambda row: row.id,
    "email": _email,
    "status": lambda row: row.status,
    "last_check_time": lambda row: row.last_check_time or "",
    "mail_count": lambda row: row.mail_count,
    "created_at": lambda row: row.created_at,
}
"""The fields to sort by."""

_TEXT_KEYS = frozenset({"email", "status", "last_check_time", "created_at"})


def _set(value: str | tuple[str, ...] | None) -> frozenset[str] | None:
    return None if value is None else frozenset((value,) if isinstance(value, str) else value)


class _Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    sort: str
    key: str | int
    id: int


def token_of(sort: Sort, after: Entry) -> str:
    """What the client gets in `next`: field, key and id."""
    return msgspec.json.encode(_Token(sort.field, *after)).hex()


def entry_of(sort: Sort, token: str) -> Entry | None:
    """The entry that the client gave back in `before`; None if it is none of this order."""
    try:
        given = msgspec.json.decode(bytes.fromhex(token), type=_Token)
    except (ValueError, msgspec.MsgspecError):
        return None
    of_text = sort.field in _TEXT_KEYS
    return (
        (given.key, given.id) if given.sort == sort.field and isinstance(given.key, str) is of_text else None
    )
