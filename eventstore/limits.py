"""How large an append may be: checked on the loop, before anything is queued."""

from collections.abc import Sequence

from huahuo.eventstore.blobs import BLOB_BYTES_MAX
from huahuo.eventstore.errors import TooLarge
from huahuo.eventstore.model import LOG_STREAM, Append, NewEvent, RowPut

EVENT_BYTES_MAX = 1 << 20
APPEND_EVENTS_MAX = 1 << 16
PRUNE_EVENTS_MAX = 10_000
APPEND_BYTES_MAX = 64 << 20
NAME_CHARS_MAX = 255
KEYFRAMES_KEPT = 8
"""The newest keyframes that are kept of a stream and fold, all with one fingerprint."""
KEYFRAME_SPAN = 4096
"""Of the older keyframes, the first in each span of 4,096 seqs is kept, so past states stay near one."""
KEY_BYTES_MAX = 1024
PAGE_ROWS_MAX = 500
"""Of an answer to an audit question."""
INT64_MAX = (1 << 63) - 1
_INT64_MIN = -INT64_MAX
BROWSER_INT_MAX = (1 << 53) - 1
"""A browser rounds larger integers, so none may be in what is sent to one."""


def weigh(append: Append, events_bytes: int | None = None) -> int:
    """How many bytes of content `append` carries.

    `events_bytes`: of the bodies of its events, if each has been checked against the limits already.

    Raises:
        TooLarge: it or one of its events is over a limit.
        ValueError: it names no stream, or the reserved name `log`.
    """
    if len(append.events) > APPEND_EVENTS_MAX:
        raise TooLarge(f"{len(append.events)} events in one append, at most {APPEND_EVENTS_MAX}")
    total = _weigh_events(append.events) if events_bytes is None else events_bytes
    if (
        append.rows
        or append.blobs
        or append.secrets
        or append.drop_blobs
        or append.drop_secrets
        or append.shred
        or append.ended
    ):
        total += _weigh_beside(append)
    if append.prune is not None and len(append.prune.positions) > PRUNE_EVENTS_MAX:
        raise TooLarge(f"{len(append.prune.positions)} events pruned at once, at most {PRUNE_EVENTS_MAX}")
    if append.command is not None:
        key = append.command.key
        if len(key.user) + len(key.client) + len(key.id) > NAME_CHARS_MAX:
            check_names(key.user, key.client, key.id)
        total += len(append.command.reply)
    if len(append.principal) + len(append.command_id) > NAME_CHARS_MAX:
        check_names(append.principal, append.command_id)
    if not (_INT64_MIN <= append.ts_ms <= INT64_MAX and 0 <= append.cause <= INT64_MAX):
        raise TooLarge("a number beyond 64 bits")
    if total > APPEND_BYTES_MAX:
        raise TooLarge(f"an append of {total} bytes, at most {APPEND_BYTES_MAX}")
    return total


def _weigh_events(events: Sequence[NewEvent]) -> int:
    """How many bytes the bodies have."""
    total = 0
    for event in events:
        size = len(event.body)
        if size > EVENT_BYTES_MAX:
            raise TooLarge(f"an event of {size} bytes, at most {EVENT_BYTES_MAX}")
        total += size
        stream = event.stream
        if not stream or stream == LOG_STREAM:
            raise ValueError(f"not the name of a stream: {stream!r}")
        if len(stream) + len(event.type) + len(event.entity) + len(event.command_id) > NAME_CHARS_MAX:
            check_names(stream, event.type, event.entity, event.command_id)
        if not 0 <= event.version <= INT64_MAX:
            raise TooLarge("a version beyond 64 bits")
    return total


def _weigh_beside(append: Append) -> int:
    """How many bytes an append carries besides its events."""
    total = 0
    table = part = ""
    for row in append.rows:
        if row.table != table or row.part != part:  # mostly those of the row before
            table, part = row.table, row.part
            check_names(table, part)
        if row.key is not None and len(row.key) > KEY_BYTES_MAX:
            raise TooLarge(f"a row key of {len(row.key)} bytes, at most {KEY_BYTES_MAX}")
        if isinstance(row, RowPut):
            total += len(row.value)
        elif row.blobs:
            if row.key is None:
                raise ValueError("only a single row releases blobs, not a whole part")
            check_names(*row.blobs)
    for blob in append.blobs:
        if len(blob) > BLOB_BYTES_MAX:
            raise TooLarge(f"a blob of {len(blob)} bytes, at most {BLOB_BYTES_MAX}")
        total += len(blob)
    for put in append.secrets:
        check_names(put.owner, put.name)
        total += len(put.value.reveal())
    for owner, name in append.drop_secrets:
        check_names(owner, name)
    check_names(*append.shred, *append.drop_blobs, *append.ended)
    return total


def check_number(number: int) -> None:
    """Raises TooLarge if `number` is not one from 0 that fits in 64 bits with its sign."""
    if not 0 <= number <= INT64_MAX:
        raise TooLarge("a number below zero or beyond 64 bits")


def check_names(*names: str) -> None:
    """Raises TooLarge if a name has more than `NAME_CHARS_MAX` characters."""
    for name in names:
        if len(name) > NAME_CHARS_MAX:
            raise TooLarge(f"a name of {len(name)} characters, at most {NAME_CHARS_MAX}")
