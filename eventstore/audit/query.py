"""What is asked of an audit index: the conditions of a question, and the SQL that answers it."""

import sqlite3
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from huahuo.eventstore.ambient import rfc3339
from huahuo.eventstore.audit.tables import EXACT, ROW, Row, facts_of, word
from huahuo.eventstore.audit.text import match_of

COUNTED_MAX = 5_000
"""At most this many matches are counted and sorted into facets; beyond it the count is `more than` this."""

FACETS = ("type", "stream", "principal", "entity")
_FACET_VALUES = 10


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """A query: every field that is given must match. Times are RFC 3339 UTC, both ends included."""

    stream: str = ""
    types: tuple[str, ...] = ()
    principal: str = ""
    entity: str = ""
    command_id: str = ""
    since: str = ""
    until: str = ""
    text: str = ""

    def described(self) -> dict[str, object]:
        """The query as it is recorded: only the fields that were given."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if value}


class Counted(msgspec.Struct, frozen=True):
    """How many events match (`exact`, or more than that), and the commonest values among them."""

    count: int
    exact: bool
    facets: dict[str, dict[str, int]]


def find(connection: sqlite3.Connection, where: Where, after: int, upto: int, limit: int) -> list[Row]:
    """The first `limit` matches at positions in (after, upto], ascending.

    Raises:
        ValueError: the text to search for is empty or malformed.
    """
    found = _select(connection, ROW, where, after, upto, limit)
    names = Row.__struct_fields__
    return [
        Row(**dict(zip(names, row, strict=True)) | {"data": msgspec.Raw(str(row[-1]).encode())})
        for row in found
    ]


def count(connection: sqlite3.Connection, where: Where, upto: int) -> Counted:
    """Count the matches (at most `COUNTED_MAX`) and their commonest values in each of `FACETS`.

    Raises:
        ValueError: as `find`.
    """
    columns = ", ".join(f"event.{name}" for name in FACETS)
    found = _select(connection, columns, where, 0, upto, COUNTED_MAX + 1)
    exact, found = len(found) <= COUNTED_MAX, found[:COUNTED_MAX]
    tallies = {name: Counter(row[n] for row in found) for n, name in enumerate(FACETS)}
    common = {name: tally.most_common(_FACET_VALUES) for name, tally in tallies.items()}
    facets = {name: {value: n for value, n in best if value} for name, best in common.items()}
    return Counted(len(found), exact, facets)


def _select(
    connection: sqlite3.Connection, columns: str, where: Where, after: int, upto: int, limit: int
) -> list[tuple[Any, ...]]:
    clauses, values = _clauses(connection, where, after, upto)
    source, order = "event", "position"
    if where.text:
        # The full text gives its matches in the order of positions, so a page of them is enough.
        source, order = "event_fts CROSS JOIN event ON position = event_fts.rowid", "event_fts.rowid"
        clauses = ["event_fts.rowid BETWEEN ? AND ?", *clauses[1:], "event_fts MATCH ?"]
        values.append(_match(where))
    sql = f"SELECT {columns} FROM {source} WHERE {' AND '.join(clauses)} ORDER BY {order} LIMIT ?"  # noqa: S608  ours
    found: list[tuple[Any, ...]] = connection.execute(sql, [*values, limit]).fetchall()
    return found


def _clauses(
    connection: sqlite3.Connection, where: Where, after: int, upto: int
) -> tuple[list[str], list[str | int]]:
    """The conditions on a row. A time becomes a range of positions, so that it costs one look-up."""
    lowest, highest = after + 1, upto
    if where.since:
        sql = "SELECT max(position) FROM stretch WHERE clock < ?"
        lowest = max(lowest, connection.execute(sql, [where.since]).fetchone()[0] or 0)
    if where.until:
        back_ms = int(facts_of(connection).get("back_ms", "0"))
        sql = "SELECT min(position) FROM stretch WHERE clock > ?"
        found = connection.execute(sql, [rfc3339(_ms(where.until) + back_ms)]).fetchone()[0]
        highest = min(highest, upto if found is None else found - 1)
    clauses, values = ["position BETWEEN ? AND ?"], list[str | int]([lowest, highest])
    for column in ("stream", "principal", "entity", "command_id"):
        if asked := getattr(where, column):
            clauses.append(f"event.{column} = ?")
            values.append(asked)
    if where.types:
        clauses.append(f"event.type IN ({', '.join('?' * len(where.types))})")
        values += where.types
    for column, sign in (("since", ">="), ("until", "<=")):
        if asked := getattr(where, column):
            clauses.append(f"timestamp {sign} ?")
            values.append(asked)
    return clauses, values


def _match(where: Where) -> str:
    """The search in the full text, narrowed by its exact columns."""
    parts = [f"data : ({match_of(where.text)})"]
    for column in EXACT:
        asked = where.types if column == "type" else (getattr(where, column),)
        if words := [word(value) for value in asked if value]:
            parts.append(f"{column} : ({' OR '.join(words)})")
    return " AND ".join(parts)


def _ms(time: str) -> int:
    given = datetime.fromisoformat(time) - datetime.fromtimestamp(0, UTC)
    return given // timedelta(milliseconds=1)
