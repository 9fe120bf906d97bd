"""The statements that write events: whatever the events share, the rows are theirs."""

from pathlib import Path
from typing import Any

import pytest

from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.sqlite.changes import insert_events, number_streams
from huahuo.eventstore.sqlite.connections import connect_writer
from huahuo.eventstore.sqlite.log import prepare
from huahuo.eventstore.sqlite.names import Names


def events(count: int) -> list[StoredEvent]:
    return [
        StoredEvent(
            at, f"user/{at % 3}", at, "tick", b'{"n":%d}' % at, 1, 1_000 + at, "", "user/1", f"c{at}", 0,
            "build", at.to_bytes(32),
        )
        for at in range(1, count + 1)
    ]  # fmt: skip


def written(folder: Path, given: list[StoredEvent]) -> list[tuple[Any, ...]]:
    """The rows, with names in place of their numbers."""
    connection = connect_writer(folder / "log.db")
    try:
        connection.execute("BEGIN")
        prepare(connection)
        names = Names()
        streams = number_streams(connection, names, given)
        rows = [(stream, e.seq, e.position, 0) for e, stream in zip(given, streams, strict=True)]
        insert_events(connection, names, given, rows)
        return connection.execute(
            "SELECT position, stream.name, seq, type.text, body, version, ts, entity, principal, command_id,"
            " cause, build.text, chain FROM event JOIN stream ON stream.id = event.stream"
            " JOIN name AS type ON type.id = event.type JOIN name AS build ON build.id = event.build"
            " ORDER BY position"
        ).fetchall()
    finally:
        connection.close()


def expected(given: list[StoredEvent]) -> list[tuple[Any, ...]]:
    return [
        (e.position, e.stream, e.seq, e.type, e.body, e.version, e.ts_ms, e.entity, e.principal, e.command_id,
         e.cause, e.build, e.chain)
        for e in given
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 15, 16, 17, 31, 100, 255, 256, 257, 600])
def test_any_number_of_events_that_are_alike_is_written_as_given(tmp_path: Path, count: int) -> None:
    given = events(count)
    assert written(tmp_path, given) == expected(given)
