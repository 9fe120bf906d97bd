"""Making small tables again that are damaged when a log is opened: a start is refused only where it must be.

meta      each value is taken from where else it stands, or is one that loses nothing
counter   rows that fit stay; what may have been counted by another one is never given out again
ended     says only what need not be in memory, so it may be empty
pruned    is empty if no event was ever pruned; else it cannot be made again
"""

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.core.sums import row_crc
from huahuo.eventstore.errors import Corrupt, EventStoreError, SealBroken, WrongKey
from huahuo.eventstore.sqlite.connecting import connect_reader, connect_writer
from huahuo.eventstore.sqlite.directory_lock import DirectoryLock, Left
from huahuo.eventstore.sqlite.ended import MAKE_ENDED
from huahuo.eventstore.sqlite.made_anew import drop_table, made_by
from huahuo.eventstore.sqlite.mark import MARK, Mark, MarkFile
from huahuo.eventstore.sqlite.meta import put_meta
from huahuo.eventstore.sqlite.old_formats import has_all_sums, is_old
from huahuo.eventstore.sqlite.salvage import until_fault
from huahuo.eventstore.sqlite.small_tables import Kept, is_replica, read_small, sum_of_counters
from huahuo.eventstore.sqlite.table_faults import faults_said, none_was_pruned
from huahuo.eventstore.sqlite.usage import FORGET_EVENTS

LOSS_STRIDE: Final = 1 << 30
"""When numbers may be lost, counters move on by this: more numbers than the lost part can have used, at 100
bytes or more for each number, and few enough for eight million losses within JavaScript's 2^53."""
FIRST_NUMBER: Final = "first_number"
"""Key of `meta`: the first number of a counter without a row, since its row may be among what was lost."""
_FAR: Final = 1 << 40
"""The first number where not even `first_number` is known: a thousand losses would not have reached it."""
_KEYS_ASKED: Final = 1000
"""At most this many data keys are tried to find out whether the master key is the right one."""
_LINK: Final = "SELECT chain FROM event WHERE position = ?"

_log = structlog.get_logger(__name__)


def remake_small(
    path: Path, *, marks: list[Mark], lock: DirectoryLock, vault: Vault, ambient: Ambient, compared: bool
) -> list[Corrupt]:
    """Make `meta` and `counter` again if they are damaged. Returns what was wrong, and what was done.

    `compared`: the counters must be those that the last close noted, since the log is not an older one.

    Raises:
        WrongKey: no data key opens with this master key.
        Corrupt: the log is a node's replica, which must have what all others have.
    """
    with contextlib.closing(connect_reader(path)) as connection:
        if is_old(connection) or not made_by(connection, "meta"):
            return []
        meta, counter = _read_both(connection, marks, lock.left, compared=compared)
        found = [one.damage for one in (meta, counter) if one.damage is not None]
        if not found:
            return []
        if is_replica(connection, meta):
            raise Corrupt(
                found[0].place,
                f"{found[0].reason}; of a node's replica it is not made again: the others have it whole",
            )
        values, told = _values(connection, meta, marks, lock.left, vault, ambient)
    first = _first_number(meta, counter)
    if first is not None:
        values[FIRST_NUMBER] = str(first).encode()
        told.append(f"numbers go on from {first}")
    _write(path, meta, counter, values)
    if counter.damage is not None:
        lock.note_counters(sum_of_counters(counter.rows))
        if marks:
            MarkFile(path.with_name(MARK), msgspec.structs.replace(marks[0], counters=0)).close()
    done = "; ".join(["made again from what is whole", *told])
    _log.warning("small_tables_made_again", found=[str(one) for one in found], done=done)
    return [Corrupt(one.place, f"{one.reason}; {done}") for one in found]


def damage_of_small(path: Path, marks: list[Mark], left: Left) -> list[Corrupt]:
    """What is wrong with `meta` and `counter`; nothing is written. `left`: how the directory was left."""
    with contextlib.closing(connect_reader(path)) as connection:
        if is_old(connection) or not made_by(connection, "meta"):
            return []
        both = _read_both(connection, marks, left, compared=True)
    return [one.damage for one in both if one.damage is not None]


def _read_both(
    connection: sqlite3.Connection, marks: list[Mark], left: Left, *, compared: bool
) -> tuple[Kept, Kept]:
    meta, counter = read_small(connection, "meta"), read_small(connection, "counter")
    return meta, _compared(counter, left, _noted(marks, meta)) if compared else counter


def _noted(marks: list[Mark], meta: Kept) -> int:
    """The sum that `log.mark` says the counters of this log reached, 0 if it says none."""
    log_id = meta.rows.get("log")
    known = log_id.decode(errors="replace") if isinstance(log_id, bytes) else ""
    return max((mark.counters for mark in marks if mark.log_id == known), default=0)


def _compared(counter: Kept, left: Left, noted: int) -> Kept:
    """`counter`, with what the note of a clean close, or else `log.mark`, says of its rows."""
    if not left.pid and left.counters:
        is_older = sum_of_counters(counter.rows) != left.counters
        if not is_older:
            return msgspec.structs.replace(counter, lost=frozenset())
    else:
        is_older = sum(int(following) for following in counter.rows.values()) < noted
    if counter.lost or counter.lost is None or not is_older:
        return counter
    torn = counter.torn
    return Kept({}, None, Corrupt("table counter", "it is older than the log's end"), torn=torn)


def _first_number(meta: Kept, counter: Kept) -> int | None:
    """The new first number, where a counter may have lost its own. It is above all that were given out."""
    known = meta.rows.get(FIRST_NUMBER)
    unknown = meta.may_have_had(FIRST_NUMBER)
    if counter.lost == frozenset() and not unknown:
        return None
    first = int(known) if known is not None else 1
    if unknown:
        first = max(_FAR, *(int(following) for following in counter.rows.values()), first)
    return first + LOSS_STRIDE


def _values(
    connection: sqlite3.Connection, meta: Kept, marks: list[Mark], left: Left, vault: Vault, ambient: Ambient
) -> tuple[dict[str, bytes], list[str]]:
    """The values of `meta`, with a sentence for each that could not be what it was."""
    values = {key: value for key, value in meta.rows.items() if isinstance(value, bytes)}
    told: list[str] = []
    if "log" not in values:
        log_id = _proven_id(connection, marks, left)
        if not log_id:
            log_id = ambient.token()
            told.append(f"the log has the new id {log_id}, and clients are reset")
        values["log"] = log_id.encode()
    if "writer_epoch" not in values:
        values["writer_epoch"] = str(ambient.now_ms()).encode()  # another one than any writer can have
    if "master_key" not in values:
        _prove_key(connection, vault)
        values["master_key"] = vault.mark()
    if meta.may_have_had("indexed"):
        values["indexed"] = b"0"  # all events are looked at again
    return values, told


def _proven_id(connection: sqlite3.Connection, marks: list[Mark], left: Left) -> str:
    """The id that was noted outside the database with a link that the log has; "" if there is none."""
    noted = [(mark.log_id, mark.position, mark.chain) for mark in marks]
    with contextlib.suppress(ValueError):
        noted.append((left.log, left.position, bytes.fromhex(left.chain)))
    for log_id, position, chain in noted:
        rows, _ = until_fault(connection, _LINK, (position,))
        if log_id and position and (chain,) in rows:
            return log_id
    return ""


def _prove_key(connection: sqlite3.Connection, vault: Vault) -> None:
    """Raises WrongKey if there are data keys and none opens."""
    sql = "SELECT owner, wrapped, crc FROM data_key LIMIT ?"
    tried = False
    for owner, wrapped, crc in until_fault(connection, sql, (_KEYS_ASKED,))[0]:
        name = owner.decode(errors="replace")
        if crc != row_crc("data_key", name, wrapped):
            continue
        tried = True
        with contextlib.suppress(SealBroken):
            vault.data_key(wrapped, name)
            return
    if tried:
        raise WrongKey("the log was made with another master key: none of its data keys opens with this one")


def _write(path: Path, meta: Kept, counter: Kept, values: dict[str, bytes]) -> None:
    with contextlib.closing(connect_writer(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, kept in (("meta", meta), ("counter", counter)):
            if kept.damage is not None:
                _empty(connection, table, torn=kept.torn)
        for key, value in values.items():
            put_meta(connection, key, value)
        if counter.damage is not None:
            rows = [
                (name, following, row_crc("counter", name, following))
                for name, following in counter.rows.items()
            ]
            connection.executemany("INSERT INTO counter VALUES (?, ?, ?)", rows)
        if meta.may_have_had("counted"):
            # They are counted again from the first one.
            connection.execute(FORGET_EVENTS if has_all_sums(connection) else "UPDATE usage SET events = 0")
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _empty(connection: sqlite3.Connection, table: str, *, torn: bool) -> None:
    """Leave `table` without rows. One with a damaged page is made anew, and its old pages stay unused."""
    if not torn:
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  a constant
        return
    made = made_by(connection, table)
    drop_table(connection, table, (table,))
    for sql in made:
        connection.execute(sql)


def remake_ended(path: Path, _error: Exception | None = None) -> Corrupt | None:
    """If a page of `ended` is damaged, make the table anew, empty. Returns what was wrong."""
    with contextlib.closing(connect_reader(path)) as connection:
        said = faults_said(connection, "PRAGMA quick_check('ended')")
    if not said:
        return None
    _anew(path, "ended", [MAKE_ENDED])
    return Corrupt("table ended", f"{said[0]}; it was made anew, so more heads of streams are in memory")


def remake_pruned(path: Path, _error: Exception | None = None) -> Corrupt | None:
    """If a page of `pruned` is damaged and no event was ever pruned, make the table anew, empty."""
    with contextlib.closing(connect_reader(path)) as connection:
        said = faults_said(connection, "PRAGMA quick_check('pruned')")
        if not (said and none_was_pruned(connection)):
            return None
        made = made_by(connection, "pruned")
    _anew(path, "pruned", made)
    return Corrupt("table pruned", f"{said[0]}; it was made anew: no event was ever pruned")


def _anew(path: Path, table: str, made: Sequence[str]) -> None:
    try:
        with contextlib.closing(connect_writer(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            drop_table(connection, table, (table,))
            for sql in made:
                connection.execute(sql)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise EventStoreError(f"table {table} cannot be made anew: {error}") from None
