"""Making the table of events again if SQLite cannot read all of it.

What `huahuo.eventstore.sqlite.event_search` finds is put into a new table. A lost event keeps its place as
one that fits no link, so its stream is `corrupt` there and goes on behind it. If nothing says to which
streams lost events belonged, the next seqs of any stream are unknown: then the log is refused, until the loss
is accepted.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.sums import row_crc
from huahuo.eventstore.errors import Corrupt, Damaged, Lost
from huahuo.eventstore.sqlite.chain_check import check_chain
from huahuo.eventstore.sqlite.connecting import connect_writer
from huahuo.eventstore.sqlite.event_pages import EventRow
from huahuo.eventstore.sqlite.event_search import Found, search
from huahuo.eventstore.sqlite.index_proof import FALSE_INDEX
from huahuo.eventstore.sqlite.inserts import INSERT_EVENT
from huahuo.eventstore.sqlite.loading import select_end
from huahuo.eventstore.sqlite.loss import untouched
from huahuo.eventstore.sqlite.made_anew import drop_table, made_by
from huahuo.eventstore.sqlite.mark import Mark
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.naming import Naming, read_naming
from huahuo.eventstore.sqlite.old_formats import is_old
from huahuo.eventstore.sqlite.page_faults import page_faults
from huahuo.eventstore.sqlite.salvage import FAULTS
from huahuo.eventstore.sqlite.schema import PAGE_BYTES
from huahuo.eventstore.sqlite.search_scratch import PUT_HURT, has_room, scan
from huahuo.eventstore.sqlite.summing import walk
from huahuo.eventstore.sqlite.table_faults import faults_said
from huahuo.eventstore.sqlite.tail_check import NOT_INDEXED, UNPLACED
from huahuo.eventstore.sqlite.wal import size_bytes
from huahuo.eventstore.sqlite.wal_frames import read_frames

PLACE: Final = "the table of events"
LOST_STREAM: Final = "lost/events"
"""The stream of lost events of which nothing says where they belonged, once their loss is accepted."""
_STREAMS_TOLD_MAX: Final = 5
_COMPLETE: Final = "SELECT count(*) + (SELECT count(*) FROM pruned), coalesce(max(position), 0) FROM event"

_log = structlog.get_logger(__name__)


def complete_file(path: Path) -> int:
    """Put zeros in the place of pages that are cut off at the end, because SQLite opens no shorter file.

    Returns where it was cut off, 0 if it was not.
    """
    if not path.exists():
        return 0
    with path.open("rb") as file:
        head = file.read(100)
        size = file.seek(0, 2)
    pages = int.from_bytes(head[28:32])  # by SQLite's file format, 1.3
    is_counted = head[24:28] == head[92:96]
    is_short = is_counted and head[16:18] == PAGE_BYTES.to_bytes(2) and 0 < size < pages * PAGE_BYTES
    if not is_short or read_frames(path.with_name(f"{path.name}-wal")).committed:
        return 0
    _log.warning("log_file_cut_off", path=str(path), bytes=size, pages=pages)
    os.truncate(path, pages * PAGE_BYTES)
    return size


def cut_back(path: Path, size: int) -> None:
    """Undo `complete_file`, which returned `size`, if nothing was written to the new pages since.

    No connection to the file may be open in this process.
    """
    if not size or size_bytes(f"{path}-wal"):
        return
    with path.open("rb") as file:
        file.seek(size)
        while part := file.read(1 << 20):
            if any(part):
                return
    os.truncate(path, size)


def remake_events(
    path: Path,
    error: Exception | None = None,
    *,
    marks: Iterable[Mark] = (),
    accept: bool = False,
    said: str = "",
) -> Corrupt | None:
    """If SQLite cannot read all events, make their table again. Returns what was wrong, None if nothing was.

    The index by stream and seq must then be made again, too. `error`: why the log cannot be opened. `accept`:
    go on although it is unknown which events are lost. `said`: what is wrong, where that is known.

    Raises:
        Lost: events are lost, and it is not known which. No file was changed.
    """
    if not path.exists():
        return None
    frames = read_frames(path.with_name(f"{path.name}-wal"))
    if (frames.bad or frames.header_bad) and not accept:
        return None  # what is missing may be in frames that SQLite does not read
    try:
        said = said or _faults(path, error)
        if not said and error is not None and not _is_elsewhere(error):
            said = event_faults(path)
        if not said and accept:
            said = _misplaced(path)
    except FAULTS:
        return None
    if not said:
        return None
    mark = max(marks, key=lambda mark: mark.position, default=Mark("", 0, GENESIS))
    upto = (0, GENESIS) if accept else (mark.position, mark.chain)
    with contextlib.closing(scan(path)) as scratch:
        with has_room(path.parent), untouched(path) as connection:
            naming = read_naming(connection, whole=False)
            found = search(scratch, connection, naming, upto)
        if found is None or not naming.texts:
            return None
        if found.unknown and isinstance(error, Lost):
            return None  # it says more
        if found.unknown and not accept:
            raise Lost(found.unknown[0], _say_unknown(found))
        damage = Corrupt(
            PLACE, f"{said}; it was made again from the pages of the file{_say_lost(found, naming)}"
        )
        _log.warning("events_made_again", found=said, lost=len(found.lost), unknown=len(found.unknown))
        with has_room(path.parent):
            _write(path, found, naming)
    return damage


def _is_elsewhere(error: Exception) -> bool:
    return isinstance(error, Lost) or (
        isinstance(error, Damaged) and error.reason in (NOT_INDEXED, FALSE_INDEX)
    )


def _misplaced(path: Path) -> str:
    """Why the log is not opened if the place of one of its newest events is false, "" if none is."""
    with untouched(path) as connection:
        indexed = 0
        with contextlib.suppress(Corrupt):
            indexed = int(get_meta(connection, "indexed") or b"0")
        for one in walk(connection, indexed, read_naming(connection, whole=False)):
            if one.is_misplaced:
                return str(Damaged(one.position, UNPLACED))
    return ""


def event_faults(path: Path) -> str:
    """Why a search for events may mend something: which of them cannot be read, or does not fit the chain."""
    try:
        said = _faults(path, None)
        if not said:
            with untouched(path) as connection:
                if not is_old(connection):
                    check_chain(connection, 0, select_end(connection)[0])
    except Damaged as error:
        return str(error)
    except FAULTS as error:
        return str(error)
    return said


def _faults(path: Path, error: Exception | None) -> str:
    """What is wrong with the table, "" if it has all events."""
    with untouched(path) as connection:
        if is_old(connection) or not made_by(connection, "event"):
            return ""
        said = faults_said(connection, "PRAGMA quick_check('event')")
        if said:
            return said[0]
        if isinstance(error, Lost):  # all of it is older, or the root of its tree is another page
            everywhere = page_faults(connection, "quick_check", 1)
            return everywhere[0] if everywhere else _cut_short(connection)
        count, last = connection.execute(_COMPLETE).fetchone()
    if count != last:
        return f"{last - count} events are missing"
    is_event = isinstance(error, Damaged) and error.position > 0 and error.reason != NOT_INDEXED
    return str(error) if is_event else ""


def _cut_short(connection: sqlite3.Connection) -> str:
    """As `_faults`, where the root of the table is a page with some events: then none leads to the rest."""
    if not faults_said(connection, "PRAGMA quick_check(1)"):
        return ""
    [last] = connection.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()
    [indexed] = connection.execute("SELECT coalesce(max(position), 0) FROM seq_index").fetchone()
    return f"it ends at {last}, and the index has events up to {indexed}" if indexed > last else ""


def _say_unknown(found: Found) -> str:
    lost = sorted([*found.lost, *found.unknown])
    return (
        f"{len(lost)} events between positions {lost[0]} and {lost[-1]} cannot be read any more, and of"
        f" {len(found.unknown)} of them nothing says to which streams they belong"
    )


def _say_lost(found: Found, naming: Naming) -> str:
    said = f", {found.corrected} events were put right" if found.corrected else ""
    if found.unknown:
        said += f", {len(found.unknown)} events of unknown streams are lost"
    if not found.lost:
        return said
    names = naming.streams
    streams = sorted({names.get(stream, f"number {stream}") for stream, _seq in found.lost.values()})
    more = f" and {len(streams) - _STREAMS_TOLD_MAX} more" if len(streams) > _STREAMS_TOLD_MAX else ""
    where = ", ".join(streams[:_STREAMS_TOLD_MAX])
    return f"{said}, {len(found.lost)} events are lost, of the streams {where}{more}"


def _write(path: Path, found: Found, naming: Naming) -> None:
    text = min(naming.texts)
    hurt = _keep_hurt(path, found)
    with contextlib.closing(connect_writer(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        made = made_by(connection, "event")[0]
        connection.execute(made.replace("event", "again", 1))
        put = INSERT_EVENT.replace("event", "again", 1)
        rows = found.scratch.execute(
            "SELECT * FROM event WHERE position <= ? ORDER BY position", (found.end,)
        )
        connection.executemany(put, rows)
        lost = found.lost | _of_no_stream(connection, found.unknown)
        for position, (stream, seq) in lost.items():
            link = found.links.get(position, GENESIS)
            nothing = (position, stream, seq, text, 1, 0, "", "", "", 0, text, b"", link)
            row: EventRow = nothing
            if position in hurt:
                row = found.scratch.execute("SELECT * FROM hurt WHERE position = ?", (position,)).fetchone()
            try:
                connection.execute(put, row)
            except sqlite3.IntegrityError:
                # It has a value of another kind; its link may prove the next event.
                connection.execute(put, (*nothing[:-1], row[-1] if isinstance(row[-1], bytes) else link))
        drop_table(connection, "event", ("event",))  # a page of it may belong to another table
        connection.execute("ALTER TABLE again RENAME TO event")
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _keep_hurt(path: Path, found: Found) -> set[int]:
    """Keep what SQLite reads in the place of lost events: it may be of use, although it is refused.

    Returns their positions.
    """
    kept: set[int] = set()
    with untouched(path) as connection:
        for position, place in found.lost.items():
            with contextlib.suppress(*FAULTS):
                row = connection.execute("SELECT * FROM event WHERE position = ?", (position,)).fetchone()
                if row is not None and row[:3] == (position, *place):
                    found.scratch.execute(PUT_HURT, row)
                    kept.add(position)
    return kept


def _of_no_stream(connection: sqlite3.Connection, unknown: list[int]) -> dict[int, tuple[int, int]]:
    """Places in a stream of their own for lost events."""
    if not unknown:
        return {}
    row = connection.execute("SELECT id FROM stream WHERE name = ?", (LOST_STREAM,)).fetchone()
    if row is None:
        [number] = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM stream").fetchone()
        crc = row_crc("stream", number, LOST_STREAM, 1)
        connection.execute("INSERT INTO stream VALUES (?, ?, 1, ?)", (number, LOST_STREAM, crc))
    else:
        [number] = row
    [last] = connection.execute(
        "SELECT coalesce(max(seq), 0) FROM again WHERE stream = ?", (number,)
    ).fetchone()
    return {position: (number, last + n) for n, position in enumerate(unknown, start=1)}
