"""How many bytes each user takes, as a table that is counted a little behind the events.

usage   one row per user: bytes of its events, and of the blobs that were stored for it

An event belongs to the user of its stream (`user/42`), or else to the user that caused it (its principal).
The events up to the position `meta.counted` are in the table. Both change in one transaction, so a crash
loses no event and counts none twice. Pruned events that were counted are subtracted with their pruning. Blobs
are counted as they come and go.

The events after that position are usually known: the process that wrote them keeps their sum (`Tally`). Else,
as after a start, they are counted by statements of at most `SLICE_EVENTS` events: 1 to 3 µs an event.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from huahuo.eventstore.core.changes import CountUsage, DropBlob, Prune, PutBlob
from huahuo.eventstore.core.sums import Value, row_crc
from huahuo.eventstore.model import StoredEvent

MAKE_USAGE: Final = (
    "CREATE TABLE IF NOT EXISTS usage (user TEXT PRIMARY KEY, events INTEGER NOT NULL,"
    " blobs INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT, WITHOUT ROWID"
)
COLUMNS: Final = ("user", "events", "blobs")
"""What the checksum of a row covers."""
SLICE_EVENTS: Final = 4096
EVENT_BYTES: Final = 128
"""What an event takes besides its body, by estimate."""
TALLY_USERS_MAX: Final = 8192
"""Adding the sums of this many users takes about 10 ms of a commit. Of more, events are counted by slices."""
_USER: Final = "user/"

SELECT_USAGE: Final = "SELECT user, events, blobs, crc FROM usage"
_SUMMED: Final = (
    "crc = CASE WHEN usage.crc = row_crc('usage', usage.user, usage.events, usage.blobs)"
    " THEN row_crc('usage', usage.user, {}, {}) ELSE usage.crc END"
)
"""The checksum of a changed row. One that did not fit before must not fit from then on."""
_MORE_EVENTS: Final = (
    "ON CONFLICT (user) DO UPDATE SET events = usage.events + excluded.events, "
    + _SUMMED.format("usage.events + excluded.events", "usage.blobs")
)
FORGET_EVENTS: Final = "UPDATE usage SET events = 0, " + _SUMMED.format(0, "blobs")  # noqa: S608  constants
"""They are counted again from the first one. For a log whose rows have checksums."""
SELECT_COUNTED: Final = "SELECT value FROM meta WHERE key = 'counted'"
_COUNTED: Final = f"coalesce((SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM ({SELECT_COUNTED})), 0)"  # noqa: S608
_OWNER: Final = (
    "CASE WHEN substr(stream.name, 1, 5) = 'user/' THEN stream.name"
    " WHEN substr(event.principal, 1, 5) = 'user/' THEN event.principal END"
)
_BYTES: Final = (
    f"SELECT {_OWNER} AS owner, sum(length(event.body) + {EVENT_BYTES}) AS bytes"  # noqa: S608  constants
    " FROM event JOIN stream ON stream.id = event.stream WHERE {} GROUP BY event.stream, event.principal"
)
_NEXT: Final = f"event.position > {_COUNTED} AND event.position <= {_COUNTED} + {SLICE_EVENTS}"
_COUNT: Final = (
    "INSERT INTO usage SELECT owner, sum(bytes), 0, row_crc('usage', owner, sum(bytes), 0) FROM ("  # noqa: S608
    + _BYTES.format(_NEXT)
    + ") WHERE owner IS NOT NULL GROUP BY owner "
    + _MORE_EVENTS
)
_MARK: Final = (
    "INSERT OR REPLACE INTO meta SELECT 'counted', value, row_crc('meta', 'counted', value) FROM"  # noqa: S608
    f" (SELECT CAST(CAST(min({_COUNTED} + {SLICE_EVENTS}, (SELECT max(position) FROM event)) AS TEXT)"
    " AS BLOB) AS value) WHERE value IS NOT NULL"
)
_ADD: Final = (
    "INSERT INTO usage SELECT value ->> 0, value ->> 1, 0, row_crc('usage', value ->> 0, value ->> 1, 0)"  # noqa: S608
    " FROM json_each(?) WHERE true " + _MORE_EVENTS
)
_PUT_COUNTED: Final = "INSERT OR REPLACE INTO meta VALUES ('counted', ?, ?)"
_CHOSEN: Final = f"event.position IN (SELECT value FROM json_each(?)) AND event.position <= {_COUNTED}"  # noqa: S608
_UNCOUNT: Final = (
    "UPDATE usage SET events = max(0, events - gone.bytes), "  # noqa: S608  constants
    + _SUMMED.format("max(0, usage.events - gone.bytes)", "usage.blobs")
    + " FROM (SELECT owner, sum(bytes) AS bytes FROM ("
    + _BYTES.format(_CHOSEN)
    + ") GROUP BY owner) AS gone WHERE usage.user = gone.owner"
)
_PUT_BLOB: Final = (
    "INSERT INTO usage SELECT owner, 0, bytes, row_crc('usage', owner, 0, bytes)"  # noqa: S608  constants
    " FROM (SELECT ? AS owner, length(packed) AS bytes FROM blob WHERE id = ?) WHERE true"
    " ON CONFLICT (user) DO UPDATE SET blobs = usage.blobs + excluded.blobs, "
    + _SUMMED.format("usage.events", "usage.blobs + excluded.blobs")
)
_DROP_BLOB: Final = (
    "UPDATE usage SET blobs = max(0, usage.blobs - gone.bytes), "  # noqa: S608  constants
    + _SUMMED.format("usage.events", "max(0, usage.blobs - gone.bytes)")
    + " FROM (SELECT length(packed) AS bytes FROM blob WHERE id = ?) AS gone WHERE usage.user = ?"
)

type Statement = tuple[str, tuple[Value, ...]]


class Tally:
    """The bytes of the events after `meta.counted`, by user, while they are known.

    It belongs to the writer. `add` and `statements` are called within a transaction; `committed` or `forget`
    must follow.
    """

    def __init__(self) -> None:
        self._bytes: dict[str, int] | None = None
        self._end = 0
        self._moves = False  # `meta.counted` moves with this transaction

    def add(self, events: Sequence[StoredEvent]) -> None:
        """Events were inserted."""
        known = self._bytes
        if known is None or not events:
            return
        for event in events:
            user = event.stream
            if user[:5] != _USER:
                user = event.principal
                if user[:5] != _USER:
                    continue
            known[user] = known.get(user, 0) + len(event.body) + EVENT_BYTES
        self._end = events[-1].position
        if len(known) > TALLY_USERS_MAX:
            self._bytes = None

    def statements(self) -> Iterator[Statement]:
        """The statements that count all events, or the next `SLICE_EVENTS` if they must be read."""
        self._moves = True
        if self._bytes is None:
            yield _COUNT, ()
            yield _MARK, ()
        elif self._end:
            yield _ADD, (msgspec.json.encode(sorted(self._bytes.items())).decode(),)
            self._bytes = {}  # now: several who count at once may share a transaction
            counted = str(self._end).encode()
            yield _PUT_COUNTED, (counted, row_crc("meta", "counted", counted))

    def committed(self, connection: sqlite3.Connection) -> None:
        """The transaction was committed."""
        if not self._moves:
            return
        self._moves = False
        if self._bytes is not None:
            return
        row = connection.execute(SELECT_COUNTED).fetchone()
        end = connection.execute("SELECT max(position) FROM event").fetchone()[0]
        if row is not None and end is not None and int(row[0]) == end:
            self._bytes, self._end = {}, end

    def forget(self) -> None:
        """The transaction was rolled back, or it prunes events that may not have been counted."""
        self._bytes, self._moves = None, False


def before(change: object, tally: Tally) -> Iterator[Statement]:
    """The statements that must come before those of `change`."""
    match change:
        case Prune(positions, _):
            tally.forget()
            yield _UNCOUNT, (msgspec.json.encode(positions).decode(),)
        case DropBlob(id=name, owner=owner) if owner:
            yield _DROP_BLOB, (name, owner)
        case CountUsage():
            yield from tally.statements()


def after(change: object) -> Iterator[Statement]:
    """The statements that must come after those of `change`."""
    match change:
        case PutBlob(id=name, owner=owner) if owner:
            yield _PUT_BLOB, (owner, name)
