"""Checks one part of a SQLite log against its chain, on one connection."""

import sqlite3
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.errors import Damaged

_PAGE_EVENTS = 1000
_EVENTS = (
    "SELECT position, stream, seq, type, body, version, ts, entity, principal, command_id, cause, build,"
    " chain FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
)
_PRUNED = (
    "SELECT position, stream, seq, chain FROM pruned WHERE position > ? AND position <= ? ORDER BY position"
)
_encode = msgspec.msgpack.Encoder().encode


class Part(msgspec.Struct, frozen=True):
    """A checked part: its last link, and each stream's first and last seq in it; or its first damage."""

    after: int
    upto: int
    chain: bytes = b""
    seqs: dict[str, tuple[int, int]] = {}
    damaged: int = 0
    reason: str = ""


type Tell = Callable[[float], None]
"""Hears which fraction of the work is done."""


def unheard(_done: float) -> None:
    """No caller asks how far it is."""


def check_chain(connection: sqlite3.Connection, after: int, upto: int, tell: Tell = unheard) -> Part:
    """Check one part through `connection`. Raises Damaged with the first position that is not as written."""
    streams = dict(connection.execute("SELECT id, name FROM stream"))
    texts = dict(connection.execute("SELECT id, text FROM name"))
    firsts: dict[int, int] = {}
    lasts: dict[int, int] = {}
    chain = _link_at(connection, after)
    position = after
    while position < upto:
        rows = connection.execute(_EVENTS, (position, upto, _PAGE_EVENTS)).fetchall()
        rows_end = upto if len(rows) < _PAGE_EVENTS else rows[-1][0]
        if rows_end - position != len(rows):
            rows = sorted([*rows, *connection.execute(_PRUNED, (position, rows_end))], key=_first)
        # The hot loop: no calls except the two that hash.
        for row in rows:
            position += 1
            if row[0] != position:
                raise Damaged(position, f"missing, the next event stands at {row[0]}")
            stream, seq = row[1], row[2]
            last = lasts.get(stream)
            if last is None:
                firsts[stream] = seq
            elif seq != last + 1:
                raise Damaged(position, f"{streams.get(stream)} goes from seq {last} to {seq}")
            lasts[stream] = seq
            if len(row) == 4:  # noqa: PLR2004  a tombstone
                chain = row[3]
                continue
            _, _, _, type_, body, version, ts, entity, who, command, cause, build, written = row
            try:
                facts = (
                    position, streams[stream], seq, texts[type_], body, version, ts, entity, who, command,
                    cause, texts[build],
                )  # fmt: skip
            except KeyError:
                raise Damaged(position, "its stream, type or build has no name") from None
            chain = blake2b(chain + _encode(facts), digest_size=32).digest()
            if chain != written:
                raise Damaged(position, "the event does not fit its hash")
        if position < rows_end:
            raise Damaged(position + 1, f"missing, the log should go to {upto}")
        tell((position - after) / (upto - after))
    return Part(after, upto, chain, {streams[n]: (firsts[n], last) for n, last in lasts.items()})


def _first(row: tuple[Any, ...]) -> Any:
    return row[0]


def _link_at(connection: sqlite3.Connection, position: int) -> bytes:
    if not position:
        return GENESIS
    for table in ("event", "pruned"):
        row = connection.execute(f"SELECT chain FROM {table} WHERE position = ?", (position,)).fetchone()  # noqa: S608  two constants
        if row is not None:
            link: bytes = row[0]
            return link
    raise Damaged(position, "missing")


def readable(connection: sqlite3.Connection, after: int, upto: int) -> int:
    """The last position after `after` up to which SQLite can read: page by page, then event by event."""
    for limit in (_PAGE_EVENTS, 1):
        for position in _read(connection, after, upto, limit):
            after = position
    return after


def _read(connection: sqlite3.Connection, after: int, upto: int, limit: int) -> Iterator[int]:
    while after < upto:
        try:
            rows = connection.execute(_EVENTS, (after, upto, limit)).fetchall()
        except sqlite3.DatabaseError:
            return
        if not rows:
            return
        after = rows[-1][0]
        yield after
