"""Checking a whole SQLite log against its chain, as fast as the machine can.

The log is cut into parts, which processes check in parallel. Each starts from the link that is stored before
its part, and the check of the previous part ends with exactly that link. Each read is one short transaction.

    python -m huahuo.eventstore.care.verify DATABASE AFTER UPTO     checks one part, prints the result in JSON
"""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec

from huahuo.eventstore.core.reader import LogReader
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.chain_check import Part, Tell, check_chain, readable, unheard
from huahuo.eventstore.sqlite.connecting import connect_reader
from huahuo.eventstore.sqlite.damage import check_sums
from huahuo.eventstore.sqlite.directory_lock import Left

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
        seq_index.check(connection)
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
