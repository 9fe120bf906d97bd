"""Checking a whole SQLite log against its chain, as fast as the machine can.

The log is cut into parts, which processes check in parallel. Each starts from the link that is stored
before its part, and the check of the previous part ends with exactly that link. Each read is one short
transaction.

    python -m huahuo.eventstore.care.verify DATABASE AFTER UPTO     checks one part, prints the result in
    JSON
"""

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.connections import connect_reader
from huahuo.eventstore.sqlite.damage import check_sums
from huahuo.eventstore.sqlite.directory_lock import Left

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
    start = seq_index.link_at(connection, after)
    if start is None:
        raise Damaged(after, "missing")
    chain = start
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


PART_EVENTS_MIN = 100_000
"""For fewer events, another process costs more than it saves."""


class Verified(msgspec.Struct, frozen=True):
    """A log that is what was written, from `after` (excluded) to `position`, whose link is `chain`."""

    log_id: str
    after: int
    position: int
    chain: bytes
    pruned: int


async def verify(
    log: LogReader, path: Path, *, after: int = 0, left: Left | None = None, processes: int | None = None,
    tell: Tell = unheard,
) -> Verified:  # fmt: skip
    """Check everything after `after` in the database `path`, which `log` reads, and all receipts.

    `left` says how its directory was left: after a clean close, the log must end at that position.
    `tell` hears how far the chain is checked, as measured at one of the parts.

    Raises:
        Damaged: with the first position that is not what was written.
    """
    upto = log.position
    chain = check_log(path, min(after, upto), upto, processes=processes, tell=tell)
    if left is not None and not left.pid and left.log == log.log_id and left.position >= upto:
        if left.position > upto:
            raise Damaged(upto + 1, f"missing: the log was closed at {left.position}")
        if left.chain != chain.hex():
            raise Damaged(upto, "it is not the event at which the log was closed")
    pruned = await log.check_receipts()
    with contextlib.closing(connect_reader(path)) as connection:
        check_sums(connection)
    return Verified(log.log_id, after, upto, chain, pruned)


def check_log(
    path: Path, after: int, upto: int, *, processes: int | None = None, tell: Tell = unheard
) -> bytes:
    """Check positions `after` + 1 to `upto` of the database `path`; returns the last link.

    Raises:
        Damaged: with the first position that is not what was written.
    """
    wanted = processes or os.cpu_count() or 1
    count = max(1, min(wanted, (upto - after) // PART_EVENTS_MIN))
    bounds = [after + (upto - after) * n // count for n in range(count + 1)]
    words = [sys.executable, "-m", "huahuo.eventstore.care.verify", str(path)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    children = [
        subprocess.Popen([*words, str(bounds[n]), str(bounds[n + 1])], stdout=subprocess.PIPE, env=environ)  # noqa: S603
        for n in range(1, count)
    ]
    try:
        parts = [check_part(str(path), bounds[0], bounds[1], tell)]
        for child in children:
            said, _ = child.communicate()
            if child.returncode:
                raise EventStoreError("a process that checked a part of the log failed")
            parts.append(msgspec.json.decode(said, type=Part))
    finally:
        for child in children:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
    return joined(parts)


def joined(parts: list[Part]) -> bytes:
    """Join the parts: none may be damaged, and each stream must continue where the previous part left it."""
    seqs: dict[str, int] = {}
    for part in parts:
        for stream, (first, last) in part.seqs.items():
            known = seqs.get(stream)
            if known is not None and first != known + 1:
                raise Damaged(part.after + 1, f"{stream} goes from seq {known} to {first} behind there")
            seqs[stream] = last
        if part.damaged:
            raise Damaged(part.damaged, part.reason)
    return parts[-1].chain


def check_part(path: str, after: int, upto: int, tell: Tell = unheard) -> Part:
    """Check one part. Damage is returned, not raised: an earlier part may be damaged at a lower position."""
    connection = connect_reader(Path(path))
    try:
        return check_chain(connection, after, upto, tell)
    except Damaged as error:
        return Part(after, upto, damaged=error.position, reason=error.reason)
    except sqlite3.DatabaseError as error:
        return Part(after, upto, damaged=readable(connection, after, upto) + 1, reason=str(error))
    finally:
        connection.close()


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(check_part(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
