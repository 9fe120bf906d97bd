"""Everything that is damaged in a log's file, and whether it can be rebuilt.

The search continues after the first damage: to decide between a backup and a rebuild, an operator has to
know all of it.
"""

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.core.sums import crc_after, must_fit
from huahuo.eventstore.errors import MISREAD, Corrupt, Damaged, EventStoreError
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.connecting import connect_reader
from huahuo.eventstore.sqlite.event_search import search
from huahuo.eventstore.sqlite.mark import Mark, read_marks
from huahuo.eventstore.sqlite.name_salvage import is_lost
from huahuo.eventstore.sqlite.naming import Naming, read_naming
from huahuo.eventstore.sqlite.old_formats import is_old
from huahuo.eventstore.sqlite.page_faults import page_faults
from huahuo.eventstore.sqlite.passed import read_passed
from huahuo.eventstore.sqlite.put_right import positions_mended
from huahuo.eventstore.sqlite.schema import PAGE_BYTES, SUMMED
from huahuo.eventstore.sqlite.search_scratch import scan
from huahuo.eventstore.sqlite.summing import crc_at, walk
from huahuo.eventstore.sqlite.table_faults import TWICE, faults_said, none_was_pruned

DAMAGES_MAX = 20
"""At most this many are listed."""
_DERIVED = frozenset({"seq_index", "keyframe", "ended"})
_ROWS_DERIVED = frozenset({"keyframe", "ack", "usage"})
"""The tables of which a rebuild deletes rows that do not fit their checksum: what they hold comes again."""
_A_PAGE = "a page of the file: "
_OF_EVENTS = (f"{_A_PAGE}table event:", "event ", "events ")
"""How the damages begin that a search in the file's pages may mend."""
_BETWEEN = "; "
_LINES_MAX = 5
"""At most this many faults of a table are reported."""
_INDEX_PAGES = frozenset({b"\x02", b"\x0a"})
"""The first byte of a page of an index, by SQLite's file format (1.6)."""


class Damage(msgspec.Struct, frozen=True):
    """One thing that is not what was written. `can_rebuild`: it is derived from data that is whole.

    `position`: of the event that it is about, 0 if it is about no single one.
    """

    text: str
    can_rebuild: bool
    position: int = 0


def find_damage(path: Path) -> list[Damage]:
    """Check every page, row and event of the database `path`, which may be in use.

    Raises:
        Corrupt: not even its tables can be listed.
    """
    found: list[Damage] = []
    try:
        with contextlib.closing(connect_reader(path)) as connection:
            for damage in _damages(connection):
                found.append(damage)
                if len(found) >= DAMAGES_MAX:
                    break
    except (sqlite3.Error, *MISREAD) as error:
        found.append(Damage(f"the log's file cannot be read: {error}", can_rebuild=False))
    # After SQLite has closed the file: each descriptor of it that is closed drops the process's locks on it.
    of_events = [damage for damage in found if damage.text.startswith(_OF_EVENTS)]
    put_right = _put_right(path) if of_events else frozenset()
    others = [damage for damage in of_events if damage.position not in put_right]
    found_again = bool(others) and _can_be_found(path)
    return [
        msgspec.structs.replace(damage, can_rebuild=True)
        if (damage in of_events and (damage not in others or found_again))
        or (damage.text.startswith(_A_PAGE) and _of_indexes(path, damage.text))
        else damage
        for damage in found
    ]


def _put_right(path: Path) -> frozenset[int]:
    """The positions at which no event is damaged any more once rows are put right."""
    try:
        with contextlib.closing(connect_reader(path)) as connection:
            naming = read_naming(connection, whole=False)
            return positions_mended(connection, naming, read_marks(path.parent) or [])
    except (OSError, sqlite3.Error, *MISREAD):
        return frozenset()


def _can_be_found(path: Path) -> bool:
    """Whether a search in the file's pages finds all events, or corrects them."""
    no_mark = Mark("", 0, GENESIS)
    mark = max(read_marks(path.parent) or [], key=lambda mark: mark.position, default=no_mark)
    try:
        with contextlib.closing(scan(path)) as scratch:
            with contextlib.closing(connect_reader(path)) as connection:
                naming = read_naming(connection, whole=False)
                found = search(scratch, connection, naming, (mark.position, mark.chain))
            return found is not None and not (found.lost or found.unknown or found.nameless)
    except (EventStoreError, OSError, sqlite3.Error, *MISREAD):
        return False


def check_sums(connection: sqlite3.Connection) -> None:
    """Raises Corrupt for the first row that does not fit its checksum."""
    for table in SUMMED:
        for damage in _rows(connection, table):
            raise Corrupt("the log's file", damage.text)
    for damage in _index(connection, read_naming(connection)):
        raise Corrupt("the log's file", damage.text)


def _damages(connection: sqlite3.Connection) -> Iterator[Damage]:
    naming = read_naming(connection, whole=False)
    yield from _pages(connection, naming)
    for damage in naming.damages:
        yield Damage(str(damage), can_rebuild=not is_lost(damage))
    try:
        seq_index.check(connection)
    except Damaged as error:
        yield Damage(f"the index: position {error.position}, {error.reason}", can_rebuild=True)
    except (sqlite3.Error, *MISREAD) as error:
        yield Damage(f"the index: {error}", can_rebuild=True)
    for table in SUMMED:
        if table not in TWICE:
            yield from _rows(connection, table)
    yield from _events(connection, naming)
    yield from _index(connection, naming)
    yield from _passed(connection)


def broken_tables(path: Path) -> dict[str, bool]:
    """The tables of which a page is damaged, each with whether such pages are only those of its indexes."""
    with contextlib.closing(connect_reader(path)) as connection:
        indexes = _indexes(connection)
        said = {
            table: faults_said(connection, f"PRAGMA quick_check('{table}')") for table in _tables(connection)
        }
    return {
        table: all(_of_index(line, indexes) for line in lines) or _of_indexes(path, _BETWEEN.join(lines))
        for table, lines in said.items()
        if lines
    }


def _tables(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [name for (name,) in found]


def _indexes(connection: sqlite3.Connection) -> frozenset[int]:
    """The first page of each index."""
    found = connection.execute("SELECT rootpage FROM sqlite_master WHERE type = 'index'").fetchall()
    return frozenset(root for (root,) in found)


def _pages(connection: sqlite3.Connection, naming: Naming) -> Iterator[Damage]:
    """What SQLite says of the pages, table by table: which of them is damaged decides what helps."""
    everywhere = page_faults(connection, "integrity_check", DAMAGES_MAX)
    if not everywhere:
        return
    indexes = _indexes(connection)
    told = False
    for table in _tables(connection):
        lines = faults_said(connection, f"PRAGMA integrity_check('{table}')")[:_LINES_MAX]
        if lines:
            told = True
            derived = (
                table in _DERIVED
                or (table in TWICE and not naming.lost)
                or (table == "pruned" and none_was_pruned(connection))
            )
            yield Damage(_page(table, lines), derived or all(_of_index(line, indexes) for line in lines))
    if not told:
        yield Damage(_page("none", everywhere[:_LINES_MAX]), can_rebuild=False)


def _page(table: str, lines: list[str]) -> str:
    return f"{_A_PAGE}table {table}: {_BETWEEN.join(lines)}"


def _of_index(line: str, indexes: frozenset[int]) -> bool:
    """Whether a line of SQLite's is about an index, which can be made again."""
    tree = re.search(r"Tree (\d+)", line)
    return (tree is not None and int(tree[1]) in indexes) or re.search(
        r"in(?:to)? index|from index", line
    ) is not None


def _of_indexes(path: Path, said: str) -> bool:
    """As `_of_index` for all lines of `said`; the first byte of a page that SQLite names says what it is."""
    with path.open("rb") as file:
        for line in said.split(_BETWEEN):
            pages = [int(number) for number in re.findall(r"\bpage (\d+)", line)]
            for page in pages:
                file.seek((page - 1) * PAGE_BYTES)
                if file.read(1) not in _INDEX_PAGES:
                    return False
            if not pages and not _of_index(line, frozenset()):
                return False
    return True


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[Damage]:
    """The rows of `table` that do not fit their checksum."""
    columns = ", ".join(SUMMED[table])
    count = 0
    try:
        for *values, crc in connection.execute(f"SELECT {columns}, crc FROM {table}"):  # noqa: S608
            count += 1
            try:
                must_fit(crc, table, *values)
            except Corrupt as error:
                yield Damage(str(error), can_rebuild=table in _ROWS_DERIVED)
    except (sqlite3.Error, *MISREAD) as error:
        yield Damage(f"table {table} behind its row {count}: {error}", can_rebuild=table in _DERIVED)


def _events(connection: sqlite3.Connection, naming: Naming) -> Iterator[Damage]:
    """The events that do not fit the chain."""
    names = naming.streams
    position = 0
    try:
        for one in walk(connection, 0, naming):
            if one.position != position + 1:
                yield Damage(f"event at position {position + 1}: lost", False, position + 1)
            position = one.position
            if not one.fits:
                where = f"event {one.seq} of stream {names.get(one.stream)} (position {position})"
                yield Damage(f"{where}: it does not fit the hash chain", False, position)
    except (sqlite3.Error, *MISREAD) as error:
        yield Damage(f"events behind position {position}: {error}", can_rebuild=False)


def _passed(connection: sqlite3.Connection) -> Iterator[Damage]:
    """Of a node's replica: what it says that it has applied. In one snapshot, since its node may go on."""
    connection.execute("BEGIN")
    try:
        read_passed(connection)
    except Corrupt as error:
        yield Damage(str(error), can_rebuild=False)
    except (sqlite3.Error, *MISREAD) as error:
        yield Damage(f"table passed: {error}", can_rebuild=False)
    finally:
        connection.execute("ROLLBACK")


def _index(connection: sqlite3.Connection, naming: Naming) -> Iterator[Damage]:
    """The checksums of streams that do not lead from one event to the next."""
    if is_old(connection):
        return
    names = naming.streams
    sql = (
        "SELECT found.stream, found.seq, found.crc, body FROM seq_index AS found JOIN event"
        " ON event.position = found.position ORDER BY found.stream, found.seq"
    )
    last, crc = (0, 0), 0
    try:
        for stream, seq, found, body in connection.execute(sql):
            before: int | None = crc
            if last != (stream, seq - 1):
                before = crc_at(connection, stream, seq - 1, names.get(stream, ""))
            if before is not None and crc_after(before, body) != found:
                where = f"event {seq} of stream {names.get(stream)}"
                yield Damage(f"the index: {where} does not fit its checksum", can_rebuild=True)
            last, crc = (stream, seq), found
    except (sqlite3.Error, *MISREAD) as error:
        yield Damage(f"the index behind {last}: {error}", can_rebuild=True)
