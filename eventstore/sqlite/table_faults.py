"""What SQLite and the checksums say of a table: whether a damaged page hides rows of it.

A row that is found is held against its checksum. One whose entry in SQLite's own index is damaged is not
found at all: a repeated command would run twice, and a mail or a password would be missing without a word.
"""

import re
import sqlite3

from huahuo.eventstore.core.sums import row_crc
from huahuo.eventstore.errors import MISREAD, Corrupt
from huahuo.eventstore.sqlite.faults import text_of, translated
from huahuo.eventstore.sqlite.schema import SUMMED

FIRST = ("meta", "name", "stream", "counter")
"""What an opening reads as a whole: a lost row here would let numbers or names be given out again."""
SUMS_LOOKED_AT = frozenset({"ack", "usage"})
"""Tables whose rows are also held against their checksums: a read that finds no row cannot know whether one
with a damaged key was it."""
_SMALL = frozenset({"meta", "counter"})
"""Tables of a few rows: each row is compared with SQLite's index, too."""
_TOLD_MAX = 100
"""SQLite stops after this many faults of a table. Then there may be worse ones that it did not report."""
_REASONS_MAX = 3
"""At most this many of them are in a sentence."""
_HIDES_NOTHING = re.compile(r"non-|NULL value in|NUMERIC|TEXT value in|Fragmentation of")
"""How SQLite's words begin for a fault inside a row, or in the free space of a page. Every table in
`looking_over.LATER` has an index, so a row that a page lost is told in other words as well."""


def check_first(connection: sqlite3.Connection) -> None:
    """Raises Corrupt for the first table in `FIRST` of which a page is damaged. A new file has none."""
    made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table in FIRST:
        if table in made:
            pragma = "integrity_check" if table in _SMALL else "quick_check"
            if said := faults_said(connection, f"PRAGMA {pragma}('{table}')"):
                raise corrupt(f"table {table}", said)


def damage_of(connection: sqlite3.Connection, table: str) -> Corrupt | None:
    """Compare every row of `table` with SQLite's indexes.

    The place is `table …` if the damage can hide rows, else another.
    """
    said = faults_said(connection, f"PRAGMA integrity_check('{table}')")
    if not said:
        if table in SUMS_LOOKED_AT and has_misfits(connection, table):
            return Corrupt(rows_of(table), "some do not fit their checksum")
        return None
    hiding = [line for line in said if not _HIDES_NOTHING.match(line)]
    if not hiding and len(said) < _TOLD_MAX:
        return corrupt(f"a row of table {table}", said)
    return corrupt(f"table {table}", hiding or said)


def has_misfits(connection: sqlite3.Connection, table: str) -> bool:
    """Whether a row of `table` does not fit its checksum, or the rows cannot be read.

    Its own key may be what is damaged. Then its place in the index is right, and must stay.
    """
    columns = ", ".join(SUMMED[table])
    before, connection.text_factory = connection.text_factory, text_of
    try:
        rows = connection.execute(f"SELECT {columns}, crc FROM {table} NOT INDEXED")  # noqa: S608  constants
        return any(crc is not None and row_crc(table, *values) != crc for *values, crc in rows)
    except (sqlite3.Error, *MISREAD):
        return True
    finally:
        connection.text_factory = before


def index_of(table: str) -> str:
    """The place of damage that is in an index of `table` alone."""
    return f"index of table {table}"


def rows_of(table: str) -> str:
    """The place of damage that is in rows of `table`, whose pages are whole."""
    return f"rows of table {table}"


def faults_said(connection: sqlite3.Connection, pragma: str) -> list[str]:
    """All faults that SQLite tells: it puts several into a row of its answer, below a title."""
    lines: list[str] = []
    try:
        for (text,) in connection.execute(pragma):
            lines += text.splitlines()
    except sqlite3.DatabaseError as error:  # it is no page of a table
        if not isinstance(translated(error), Corrupt):
            raise
        if not lines:
            lines.append(str(error))
    return [line for line in lines if line != "ok" and not line.startswith("***")]


def corrupt(place: str, said: list[str]) -> Corrupt:
    """Damage at `place`, in the first of SQLite's words."""
    more = f" (and {len(said) - _REASONS_MAX} more)" if len(said) > _REASONS_MAX else ""
    return Corrupt(place, "; ".join(said[:_REASONS_MAX]) + more)
