"""A log as an older version left it: the tables of formats 1 and 2."""

from pathlib import Path

import pytest

from huahuo.eventstore.sqlite.schema import SUMMED
from tests.support.worlds.sqlite_logs import sql


def to_format_2(directory: Path) -> None:
    """Turn the tables into those of format 2, without checksums."""
    sql(
        directory,
        "DROP INDEX pruned_by_seq",
        *(f"ALTER TABLE {table} DROP COLUMN crc" for table in (*SUMMED, "pruned", "seq_index")),
        "PRAGMA user_version=2",
    )


def to_format_1(directory: Path) -> None:
    """Turn the tables into those of format 1."""
    to_format_2(directory)
    sql(
        directory,
        "CREATE UNIQUE INDEX event_unique ON event (stream, seq)",
        "DROP TABLE seq_index",
        "DELETE FROM meta WHERE key = 'indexed'",
        "PRAGMA user_version=1",
    )


OLDER = pytest.mark.parametrize("older", [to_format_1, to_format_2])
