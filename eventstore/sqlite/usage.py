"""How many bytes each user takes, as a table that is counted a little behind the events.

usage   one row per user: bytes of its events, and of the blobs that were stored for it

An event belongs to the user of its stream (`user/42`), or else to the user that caused it (its principal).
The events up to the position `meta.counted` are in the table, counted by statements of at most `SLICE_EVENTS`
events. Both change in one transaction, so a crash loses no event and counts none twice. Pruned events that
were counted are subtracted with their pruning. Blobs are counted as they come and go.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from huahuo.eventstore.core.storage_port import CountUsage, DropBlob, Prune, PutBlob
from huahuo.eventstore.core.sums import Value

MAKE_USAGE: Final = (
    "CREATE TABLE IF NOT EXISTS usage (user TEXT PRIMARY KEY, events INTEGER NOT NULL,"
    " blobs INTEGER NOT NULL) STRICT, WITHOUT ROWID"
)
SLICE_EVENTS: Final = 4096
EVENT_BYTES: Final = 128
"""What an event takes beside its body, by estimate."""

SELECT_USAGE: Final = "SELECT user, events, blobs FROM usage"
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
    "INSERT INTO usage SELECT owner, sum(bytes), 0 FROM ("  # noqa: S608  constants
    + _BYTES.format(_NEXT)
    + ") WHERE owner IS NOT NULL GROUP BY owner"
    " ON CONFLICT (user) DO UPDATE SET events = events + excluded.events"
)
_MARK: Final = (
    "INSERT OR REPLACE INTO meta SELECT 'counted', value, row_crc('meta', 'counted', value) FROM"  # noqa: S608
    f" (SELECT CAST(CAST(min({_COUNTED} + {SLICE_EVENTS}, (SELECT max(position) FROM event)) AS TEXT)"
    " AS BLOB) AS value) WHERE value IS NOT NULL"
)
_CHOSEN: Final = f"event.position IN (SELECT value FROM json_each(?)) AND event.position <= {_COUNTED}"  # noqa: S608
_UNCOUNT: Final = (
    "UPDATE usage SET events = max(0, events - gone.bytes) FROM (SELECT owner, sum(bytes) AS bytes FROM ("  # noqa: S608
    + _BYTES.format(_CHOSEN)
    + ") GROUP BY owner) AS gone WHERE usage.user = gone.owner"
)
_PUT_BLOB: Final = (
    "INSERT INTO usage SELECT ?, 0, length(packed) FROM blob WHERE id = ?"
    " ON CONFLICT (user) DO UPDATE SET blobs = blobs + excluded.blobs"
)
_DROP_BLOB: Final = (
    "UPDATE usage SET blobs = max(0, blobs - (SELECT length(packed) FROM blob WHERE id = ?)) WHERE user = ?"
    " AND EXISTS (SELECT 1 FROM blob WHERE id = ?)"
)

type Statement = tuple[str, tuple[Value, ...]]


def before(change: object) -> Iterator[Statement]:
    """The statements that must come before those of `change`."""
    match change:
        case Prune(positions, _):
            yield _UNCOUNT, (msgspec.json.encode(positions).decode(),)
        case DropBlob(id=name, owner=owner) if owner:
            yield _DROP_BLOB, (name, owner, name)
        case CountUsage():
            yield _COUNT, ()
            yield _MARK, ()


def after(change: object) -> Iterator[Statement]:
    """The statements that must come after those of `change`."""
    match change:
        case PutBlob(id=name, owner=owner) if owner:
            yield _PUT_BLOB, (owner, name)
