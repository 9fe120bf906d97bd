"""Which code writes the rows of a derived table: where nodes share a log, that which was made final.

The code's fingerprint is a row. An event of an internal stream goes with each change of it, and all that
writes the table expects the head of that stream. So what was computed before is refused as a conflict, in the
order of the log, and decided again. A decision of a node with other code notes that it leaves the rows out.
"""

from typing import Final

import msgspec

from huahuo.actors.domain import derived
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.fold import EntityFold
from huahuo.actors.domain.prints import print_of
from huahuo.actors.domain.row_facts import BUILT_IN, KIND, STREAMS
from huahuo.actors.entities.missing import Missing
from huahuo.actors.followers.record import Tables
from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.model import Append, NewEvent, RowDrop, RowPut
from huahuo.eventstore.port import Log

ROWS_BEGUN: Final = "rows_begun"
_CODE: Final = "code"
_BEHIND: Final = "behind"


def stream_of(table: str) -> str:
    """The stream whose head all that writes the table expects. No table of an application has such a name."""
    return f"{STREAMS}{BUILT_IN}{table}"


def code_of(catalog: Catalog, table: str) -> bytes:
    """What changes with the code that makes a derived table. It is looked at once, before the code runs."""
    if table not in catalog.table_codes:
        prints = [(one, EntityFold(one).fingerprint) for one in catalog.derived[table]]
        catalog.table_codes[table] = derived.code_of(table, prints)
    return catalog.table_codes[table]


def code_of_all(catalog: Catalog) -> str:
    """One fingerprint for all derived tables."""
    return print_of(*(code_of(catalog, table) for table in sorted(catalog.derived)))


async def code_in(log: Tables, table: str) -> bytes | None:
    """The fingerprint of the code that makes the table, None if none has."""
    return await log.row(KIND, _CODE, table.encode())


async def is_final(log: Tables, catalog: Catalog, table: str) -> bool:
    """Whether the code of this process makes the table."""
    return await code_in(log, table) == code_of(catalog, table)


async def is_behind(log: Tables, table: str) -> bool:
    """Whether a decision has left rows of it out since it was made anew."""
    return await log.row(KIND, _BEHIND, table.encode()) is not None


def behind(table: str) -> RowPut:
    """A decision left rows of the table out."""
    return RowPut(KIND, _BEHIND, table.encode(), b"")


def beginning(catalog: Catalog, table: str, seq: int, now_ms: int, by: str) -> Append:
    """The code of this process makes the table from now on. `seq`: the head of its stream so far."""
    stream, key = stream_of(table), table.encode()
    code = code_of(catalog, table) if table in catalog.derived else b""
    told = {"type": ROWS_BEGUN, "timestamp": rfc3339(now_ms), "code": code.decode()}
    event = NewEvent(stream, ROWS_BEGUN, msgspec.json.encode(told))
    rows = (RowPut(KIND, _CODE, key, code), RowDrop(KIND, _BEHIND, key)) if code else ()
    return Append(ts_ms=now_ms, events=(event,), expected={stream: seq}, rows=rows, principal=by)


class RowVersions:
    """Whether decisions of this process write the rows of a table. `shared`: other nodes write them too."""

    def __init__(self, catalog: Catalog, *, shared: bool) -> None:
        self._catalog = catalog
        self._shared = shared
        self._known: dict[str, tuple[int, bool]] = {}

    def writes(self, table: str, seq: int) -> bool:
        """Whether they do while the head of the table's stream is `seq`.

        Raises:
            Missing: that must be read first.
        """
        if not self._shared or not seq:
            return True
        at, writes = self._known.get(table, (0, False))
        if at != seq:
            raise VersionMissing(self, table)
        return writes

    async def read(self, log: Log, table: str) -> None:
        """Read by which code the table is made. A newer answer than `seq` is refused with the append."""
        seq = log.head(stream_of(table)).seq
        self._known[table] = (seq, await is_final(log, self._catalog, table))


class VersionMissing(Missing):
    """See `RowVersions.writes`."""

    def __init__(self, versions: RowVersions, table: str) -> None:
        super().__init__(table)
        self._versions, self._table = versions, table

    async def read(self, log: Log) -> None:
        """See `Missing`."""
        await self._versions.read(log, self._table)
