"""How long the search for the places of damaged events may take."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from huahuo.eventstore.core.chain import link
from huahuo.eventstore.model import Append, NewEvent, Pruning
from huahuo.eventstore.sqlite import proofs, put_right, row_links
from huahuo.eventstore.sqlite.naming import read_naming
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.spoilt import opened

PAIRS = 20
TRIES_MAX = 10_000


@pytest.mark.parametrize("column", ["body = x'00'", "type = 77"])
async def test_the_links_of_tombstones_are_searched_for_within_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    log = await opened(tmp_path)
    pairs = tuple(NewEvent(stream, "t", b"{}") for _ in range(PAIRS) for stream in ("gone", "kept"))
    done = await log.append(Append(ts_ms=0, events=pairs))
    gone = tuple(event.position for event in done.events if event.stream == "gone")  # type: ignore[union-attr]
    await log.append(Append(ts_ms=0, prune=Pruning(gone[:-1], {"gone": PAIRS})))
    await log.close()
    links = 0

    def counted(before: bytes, facts: Any) -> bytes:
        nonlocal links
        links += 1
        return link(before, facts)

    monkeypatch.setattr(row_links, "link", counted)
    monkeypatch.setattr(proofs, "TRIES_MAX", TRIES_MAX)
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as connection:
        connection.execute(f"UPDATE event SET {column} WHERE position % 2 = 0")
        assert put_right.find_mends(connection, read_naming(connection, whole=False), whole=True) == []
    exchanges = PAIRS**2
    assert links <= TRIES_MAX + 4 * 2 * PAIRS + exchanges
