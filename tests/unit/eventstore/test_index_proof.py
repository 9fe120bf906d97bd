"""An index by stream and seq that is false keeps the log closed: no seq is given out twice."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.errors import MISREAD, Damaged
from huahuo.eventstore.model import Append, NewEvent
from huahuo.eventstore.sqlite import initial_state
from huahuo.eventstore.sqlite.initial_state import prove_index
from huahuo.eventstore.sqlite.names import read_naming
from huahuo.eventstore.sqlite.schema import DATABASE, PAGE_BYTES
from tests.support.worlds.spoilt import page_of
from tests.support.worlds.sqlite_logs import opened

pytestmark = pytest.mark.slow

SEEKS = {"_WALKED_MAX": 0, "_ROWS_A_STREAM": 0}
HEADS = {"a": 3, "b": 1, "c": 1, "d": 40, "e": 2}


@pytest.fixture(params=["walked", "sought"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SEEKS.items() if request.param == "sought" else ():
        monkeypatch.setattr(initial_state, name, value)


async def filled(directory: Path) -> None:
    log = await opened(directory)
    for stream, head in HEADS.items():
        events = tuple(NewEvent(stream, "t", b"{}") for _ in range(head))
        await log.append(Append(ts_ms=0, events=events))
    await log.close()


def flipped(page: bytes) -> Iterator[bytes]:
    """A page of an index with each of its bits changed, but for those of the room that no row uses."""
    header, rows = 8, int.from_bytes(page[3:5])
    content = int.from_bytes(page[5:7])
    for at in (*range(header + 2 * rows), *range(content, len(page))):
        for bit in range(8):
            changed = bytearray(page)
            changed[at] ^= 1 << bit
            yield bytes(changed)


@pytest.mark.usefixtures("_way")
async def test_no_changed_bit_of_the_index_gives_a_false_head(tmp_path: Path) -> None:
    await filled(tmp_path)
    path, at = tmp_path / DATABASE, page_of(tmp_path, "seq_index")
    page = path.read_bytes()[at : at + PAGE_BYTES]
    with closing(sqlite3.connect(path)) as connection:
        naming = read_naming(connection)
    false, found = [], 0
    for changed in flipped(page):
        with path.open("r+b") as file:
            file.seek(at)
            file.write(changed)
        with closing(sqlite3.connect(path)) as connection:
            try:
                lasts = prove_index(connection, naming, sum(HEADS.values()))
            except (Damaged, sqlite3.DatabaseError, *MISREAD):
                found += 1
                continue
            heads = dict(zip(naming.streams.values(), lasts, strict=True))
        if heads != HEADS:
            false.append(heads)
    assert false == []
    assert found > 100
