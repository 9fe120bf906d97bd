"""Everything that is damaged in a log's file.

The search continues after the first damage: to decide between a backup and a salvage, an operator has to know
all of it.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from huahuo.eventstore.core.sums import crc_after, must_fit
from huahuo.eventstore.errors import Corrupt, Damaged
from huahuo.eventstore.sqlite import seq_index
from huahuo.eventstore.sqlite.connecting import connect_reader
from huahuo.eventstore.sqlite.faults import FAULTS
from huahuo.eventstore.sqlite.naming import Naming, read_naming
from huahuo.eventstore.sqlite.page_faults import page_faults
from huahuo.eventstore.sqlite.passed import read_passed
from huahuo.eventstore.sqlite.schema import SUMMED, tables
from huahuo.eventstore.sqlite.summing import crc_at, walk
from huahuo.eventstore.sqlite.table_faults import faults_said

DAMAGES_MAX = 20
"""At most this many are listed."""
_LINES_MAX = 5
"""At most this many faults of a table are reported."""


def find_damage(path: Path) -> list[str]:
    """Check every page, row and event of the database `path`, which may be in use: a sentence a fault."""
    found: list[str] = []
    try:
        with contextlib.closing(connect_reader(path)) as connection:
            for damage in _damages(connection):
                found.append(damage)
                if len(found) >= DAMAGES_MAX:
                    break
    except FAULTS as error:
        found.append(f"the log's file cannot be read: {error}")
    return found


def check_sums(connection: sqlite3.Connection) -> None:
    """Raises Corrupt for the first row that does not fit its checksum."""
    for table in SUMMED:
        for damage in _rows(connection, table):
            raise Corrupt("the log's file", damage)
    for damage in _index(connection, read_naming(connection)):
        raise Corrupt("the log's file", damage)


def _damages(connection: sqlite3.Connection) -> Iterator[str]:
    yield from _pages(connection)
    try:
        naming = read_naming(connection)
    except (Corrupt, *FAULTS) as error:
        yield f"the names of streams and types: {error}"
        return  # nothing else can be judged without them
    try:
        seq_index.check(connection)
    except Damaged as error:
        yield f"the index: position {error.position}, {error.reason}"
    except FAULTS as error:
        yield f"the index: {error}"
    for table in SUMMED:
        yield from _rows(connection, table)
    yield from _events(connection, naming)
    yield from _index(connection, naming)
    yield from _passed(connection)


def _pages(connection: sqlite3.Connection) -> Iterator[str]:
    """What SQLite says of the pages, table by table."""
    everywhere = page_faults(connection, "integrity_check", DAMAGES_MAX)
    if not everywhere:
        return
    told = False
    for table in sorted(tables(connection)):
        if lines := faults_said(connection, f"PRAGMA integrity_check('{table}')")[:_LINES_MAX]:
            told = True
            yield f"a page of the file: table {table}: {'; '.join(lines)}"
    if not told:
        yield f"a page of the file: {'; '.join(everywhere[:_LINES_MAX])}"


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    """The rows of `table` that do not fit their checksum."""
    columns = ", ".join(SUMMED[table])
    count = 0
    try:
        for *values, crc in connection.execute(f"SELECT {columns}, crc FROM {table}"):  # noqa: S608
            count += 1
            try:
                must_fit(crc, table, *values)
            except Corrupt as error:
                yield str(error)
    except FAULTS as error:
        yield f"table {table} behind its row {count}: {error}"


def _events(connection: sqlite3.Connection, naming: Naming) -> Iterator[str]:
    """The events that do not fit the chain."""
    position = 0
    try:
        for one in walk(connection, 0, naming):
            if one.position != position + 1:
                yield f"event at position {position + 1}: lost"
            position = one.position
            if not one.fits:
                where = f"event {one.seq} of stream {naming.streams.get(one.stream)} (position {position})"
                yield f"{where}: it does not fit the hash chain"
    except FAULTS as error:
        yield f"events behind position {position}: {error}"


def _passed(connection: sqlite3.Connection) -> Iterator[str]:
    """Of a node's replica: what it says that it has applied. In one snapshot, since its node may go on."""
    connection.execute("BEGIN")
    try:
        read_passed(connection)
    except Corrupt as error:
        yield str(error)
    except FAULTS as error:
        yield f"table passed: {error}"
    finally:
        connection.execute("ROLLBACK")


def _index(connection: sqlite3.Connection, naming: Naming) -> Iterator[str]:
    """The checksums of streams that do not lead from one event to the next."""
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
                yield f"the index: event {seq} of stream {names.get(stream)} does not fit its checksum"
            last, crc = (stream, seq), found
    except FAULTS as error:
        yield f"the index behind {last}: {error}"
