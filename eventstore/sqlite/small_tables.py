"""The tables `meta` and `counter`: whether a page of them is damaged, or an older copy of itself."""

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from huahuo.eventstore.core.sums import must_fit, row_crc
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.sqlite.connecting import connect_reader
from huahuo.eventstore.sqlite.directory_lock import Left
from huahuo.eventstore.sqlite.mark import Mark
from huahuo.eventstore.sqlite.meta import get_meta
from huahuo.eventstore.sqlite.schema import tables
from huahuo.eventstore.sqlite.table_faults import check_first


def sum_of_counters(counters: Mapping[str, int]) -> str:
    """A checksum of all counters. Each row of an old copy of their page fits its own, but not this one."""
    return f"{row_crc('counters', *(value for row in sorted(counters.items()) for value in row)):08x}"


def check_small(path: Path, marks: Sequence[Mark], left: Left) -> None:
    """Hold the counters against what the last close noted, or else against `log.mark`.

    Raises:
        Corrupt: a page or a row is not what was written, or the counters are older than the log's end.
    """
    with contextlib.closing(connect_reader(path)) as connection:
        if "counter" not in tables(connection):
            return  # a first start was cut off
        check_first(connection)
        counters = read_counters(connection)
        log_id = (get_meta(connection, "log") or b"").decode(errors="replace")
    if not left.pid and left.counters:
        is_older = sum_of_counters(counters) != left.counters
    else:
        noted = max((mark.counters for mark in marks if mark.log_id == log_id), default=0)
        is_older = sum(counters.values()) < noted
    if is_older:
        raise Corrupt("table counter", "it is older than the log's end")


def read_counters(connection: sqlite3.Connection) -> dict[str, int]:
    """The next number of each counter. Raises Corrupt: a row does not fit its checksum."""
    counters: dict[str, int] = {}
    for name, following, crc in connection.execute("SELECT name, next, crc FROM counter"):
        must_fit(crc, "counter", name, following)
        counters[name] = following
    return counters
