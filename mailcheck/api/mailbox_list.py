"""Lists of mailboxes: pages in an order, all rows as one object, failures by reason. Pure.

A client asks for an order, a filter, and where the page begins (PROTOCOL 6). A row is immutable and is
replaced as a whole, so a tuple of rows is a consistent cut. A roster keeps a few orders, so not every
request for a page sorts. Failures are grouped by reason: the server's own words differ from mailbox to
mailbox, so they make no other reason.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import batched, islice
from typing import Final

import msgspec
from msgspec import UNSET

from huahuo.mailcheck.records import EmailsList, Row
from huahuo.mailcheck.roster.state import Roster
from huahuo.mailcheck.servers.faults import KINDS

EXAMINED_MAX: Final = 10_000
"""Rows that one page examines. If a filter admits few of them, the page is short and `next` continues."""
_BUCKET_ROWS = 1_024
"""Rows handled between two pauses of sorting: less than half a millisecond."""
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
    """The entries of all rows, sorted by one field, kept up to date. Rows may change at any time.

    `made` sorts on a thread: it distributes the entries over buckets, whose bounds are sampled entries, then
    sorts each bucket. `changed` notes a change, which `put_right` applies: it touches one or two buckets.
    """

    __slots__ = ("_buckets", "_changes", "_count", "_key", "_moved", "_rows", "_splits", "made")

    def __init__(self, field: str, rows: Sequence[Row]) -> None:
        self._key = KEYS[field]
        self._rows, self._count = rows, len(rows)
        self._changes = 0
        self._splits: list[Entry] = []
        self._buckets: list[list[Entry]] = []
        self._moved: dict[int, tuple[Entry | None, Entry | None]] = {}
        self.made = False
        """Whether it is sorted. Else give it what `sort` returns, see `take`."""

    @property
    def ready(self) -> bool:
        """Whether a page can be read now."""
        return self.made and len(self._moved) <= _PUT_RIGHT_AT_ONCE

    @property
    def worn(self) -> bool:
        """Whether the buckets may differ greatly in size, after many changes."""
        return self._changes > self._count + _BUCKET_ROWS

    def sort(self, pause: Callable[[], None] = lambda: None) -> tuple[list[Entry], list[list[Entry]]]:
        """The rows of the beginning, sorted: the bounds of the buckets, and these. For any thread.

        `pause` is called about twice in a millisecond.
        """
        entries: list[Entry] = []
        for some in batched(self._rows, _BUCKET_ROWS):
            entries += [(self._key(row), row.id) for row in some]
            pause()
        count = len(entries) // _BUCKET_ROWS
        samples = sorted(entries[:: max(1, len(entries) // max(1, count * _SAMPLES_PER_BUCKET))])
        splits = [samples[len(samples) * n // (count + 1)] for n in range(1, count + 1)]
        buckets: list[list[Entry]] = [[] for _ in range(count + 1)]
        for slice_ in batched(entries, _BUCKET_ROWS):
            for entry in slice_:
                buckets[bisect_right(splits, entry)].append(entry)
            pause()
        for bucket in buckets:
            bucket.sort()
            pause()
        return splits, buckets

    def take(self, made: tuple[list[Entry], list[list[Entry]]]) -> None:
        """It is sorted now, unless it has been before."""
        if not self.made:
            self._splits, self._buckets = made
            self._rows = ()
            self.made = True

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
        self.put_right()
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

    def put_right(self) -> None:
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

PAGE_ROWS_MAX: Final = 2_000


class Sort(msgspec.Struct, frozen=True):
    """A field and a direction. Ties are sorted by id, in the same direction."""

    field: str = "id"
    descending: bool = False

    @classmethod
    def of(cls, text: str) -> "Sort | None":
        """The sort that `email` or `-last_check_time` names, None if there is no such field."""
        field = text.removeprefix("-")
        return cls(field, field != text) if field in KEYS else None


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Conditions for a row to be listed. All that are given must hold.

    `text` is searched for in address, server, message and note, ignoring case. An empty `tag` or `group`:
    mailboxes without one.
    """

    status: str | tuple[str, ...] | None = None
    mail_type: str | tuple[str, ...] | None = None
    text: str = ""
    tag: str | tuple[str, ...] | None = None
    group: str | tuple[str, ...] | None = None
    error_class: str | tuple[str, ...] | None = None

    def admits(self) -> Callable[[Row], bool] | None:
        """The test of a row, None if every row passes."""
        statuses, types, text = _set(self.status), _set(self.mail_type), self.text.lower()
        groups, classes = _set(self.group), _set(self.error_class)
        tags = None if self.tag is None else frozenset(tag.casefold() for tag in _set(self.tag) or ())
        if self == Filter():
            return None

        def test(row: Row) -> bool:
            return (
                (statuses is None or row.status in statuses)
                and (types is None or row.mail_type in types)
                and (groups is None or (row.group or "") in groups)
                and (classes is None or (row.error_class or "") in classes)
                and (tags is None or has_tag(row, tags))
                and (
                    not text
                    or text in row.email.lower()
                    or text in row.message.lower()
                    or text in row.server.lower()
                    or (row.note is not UNSET and text in row.note.lower())
                )
            )

        return test


def has_tag(row: Row, tags: frozenset[str]) -> bool:
    """Whether a row has one of these tags, which are case-folded. The empty one: it has none."""
    if row.tags is UNSET or not row.tags:
        return "" in tags
    return any(tag.casefold() in tags for tag in row.tags)


_TEXT_KEYS = frozenset({"email", "status", "last_check_time", "created_at"})


def _set(value: str | tuple[str, ...] | None) -> frozenset[str] | None:
    return None if value is None else frozenset((value,) if isinstance(value, str) else value)


class _Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    sort: str
    key: str | int
    id: int


def token_of(sort: Sort, after: Entry) -> str:
    """The value of `next`: field, key and id of the last entry."""
    return msgspec.json.encode(_Token(sort.field, *after)).hex()


def entry_of(sort: Sort, token: str) -> Entry | None:
    """The entry that a client sent in `before`, None if it does not belong to this order."""
    try:
        given = msgspec.json.decode(bytes.fromhex(token), type=_Token)
    except (ValueError, msgspec.MsgspecError):
        return None
    of_text = sort.field in _TEXT_KEYS
    return (
        (given.key, given.id) if given.sort == sort.field and isinstance(given.key, str) is of_text else None
    )


ORDERS_MAX: Final = 2
"""Orders kept per roster, 64 to 130 bytes a mailbox each. The least recently used one is dropped."""


def kept_order(state: Roster, field: str) -> Order | None:
    """The order of a roster's rows by this field, if there is one. It may not be `ready` yet."""
    watchers = state.views.watchers
    order = watchers.get(field)
    if not isinstance(order, Order) or order.worn:
        return None
    watchers[field] = watchers.pop(field)  # at the end: the first one is the least recently used
    return order


def order_of(state: Roster, field: str) -> Order:
    """As `kept_order`. If there is none, one that is not sorted takes the place of the oldest."""
    order = kept_order(state, field)
    if order is None:
        watchers = state.views.watchers
        watchers.pop(field, None)
        while len(watchers) >= ORDERS_MAX:
            del watchers[next(iter(watchers))]
        order = watchers[field] = Order(field, state.cut())
        state.views.kept = True
    return order


_SLICE_ROWS = 256
_PIECE_ROWS = 1_024
"""Encoding this many rows takes half a millisecond."""


class RowsCut:
    """A JSON object with a list of rows in it: `head`, the rows, `tail`. See `actors.plugins.calls`."""

    __slots__ = ("_head", "_rows", "_tail")

    def __init__(self, head: bytes, rows: Sequence[Row], tail: bytes) -> None:
        self._head = head
        self._rows = rows
        self._tail = tail

    def pieces(self) -> Iterator[bytes]:
        """See `Parted`."""
        opened = self._head
        for some in batched(self._rows, _PIECE_ROWS):
            yield opened + msgspec.json.encode(some)[1:-1]
            opened = b","
        yield self._tail if self._rows else opened + self._tail

    def part(self, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """See `Parted`. The part ends with the first slice of rows that reaches `bytes_max`."""
        rows, encoded, size = self._rows, [], 0
        while start < len(rows) and size < bytes_max:
            some = rows[start : start + _SLICE_ROWS]
            encoded.append(msgspec.json.encode(some)[1:-1])
            size += len(encoded[-1]) + 1
            start += len(some)
        return b"%b%b%b" % (self._head, b",".join(encoded), self._tail), start if start < len(rows) else None


def snapshot_of(state: Roster) -> RowsCut:
    """The state of a snapshot of `user/<id>` (PROTOCOL 2)."""
    return RowsCut(b'{"emails":[', state.cut(), b"]}")


def list_of(state: Roster, stream: str, seq: int) -> RowsCut:
    """The `emails_list` of all rows: a consistent cut."""
    whole = msgspec.json.encode(EmailsList(msgspec.Raw(b"[]"), stream, seq))
    head, tail = whole.split(b"[]", 1)
    return RowsCut(head + b"[", state.cut(), b"]" + tail)


FAILED: Final = frozenset({"error", "need_reauth"})
_MESSAGES: Final = tuple((kind.message, kind.advice) for kind in KINDS.values())


class Reason(msgspec.Struct):
    """One reason: how many mailboxes have it, and the first of them."""

    status: str
    error_class: str
    message: str
    advice: str
    count: int
    email_ids: list[int]


class Failures(msgspec.Struct, tag="failures", tag_field="type"):
    """All reasons, the most frequent first. `total` counts the mailboxes that failed."""

    data: list[Reason]
    total: int


def failures_of(rows: Iterable[Row], *, mailboxes_max: int) -> Failures:
    """The failures among these rows, with at most `mailboxes_max` mailboxes of each reason."""
    found: dict[tuple[str, str], Reason] = {}
    total = 0
    for row in rows:
        if row.status not in FAILED:
            continue
        total += 1
        message, advice = _worded(row.message)
        reason = found.get((row.status, message))
        if reason is None:
            reason = Reason(row.status, row.error_class or "", message, advice, 0, [])
            found[row.status, message] = reason
        reason.count += 1
        if len(reason.email_ids) < mailboxes_max:
            reason.email_ids.append(row.id)
    return Failures(sorted(found.values(), key=lambda one: (-one.count, one.message)), total)


def _worded(message: str) -> tuple[str, str]:
    """Our own words of a failure, without the server's, and what to do next."""
    for ours, advice in _MESSAGES:
        if message.startswith(ours):
            return ours, advice
    return message, ""
