"""SQLite logs in directories: opened, read in both ways, left as a killed process leaves them."""

import sqlite3
from contextlib import closing
from pathlib import Path

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.eventstore.sqlite.view import SqliteView
from tests.support.worlds.logs import MASTER_KEY, append, event, read_joined


async def opened(directory: Path, ambient: FakeAmbient | None = None, *, restored: bool = False) -> SqliteLog:
    return await SqliteLog.open(
        directory, ambient=ambient or FakeAmbient(1), master_key=MASTER_KEY, build="b", restored=restored
    )


async def filled(directory: Path, count: int = 10) -> None:
    """A closed log of `count` events in stream `a`."""
    log = await opened(directory)
    await log.append(append(*(event("a", b"body-%06d" % n) for n in range(count))))
    await log.close()


async def verified(directory: Path) -> int:
    log = await opened(directory)
    count = await log.verify()
    await log.close()
    return count


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def sql(directory: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Run `statement` on a closed log."""
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


async def told(log: Log | SqliteView, stream: str, step: int) -> list[bytes]:
    """The bodies of `stream`, read `step` at a time in both ways, which must agree."""
    bodies: list[bytes] = []
    after = 0
    while page := await log.read(stream, after, events_max=step):
        assert [e.seq for e in page] == list(range(page[0].seq, page[0].seq + len(page)))
        joined = await read_joined(log, stream, after, events_max=step)
        assert joined is not None
        assert (joined.first, joined.count) == (page[0].seq, len(page))
        assert joined.bodies == b",".join(e.body for e in page)
        bodies += [e.body for e in page]
        after = page[-1].seq
    return bodies


def as_killed(directory: Path, copy: Path) -> Path:
    """The files as a killed process leaves them."""
    copy.mkdir()
    for suffix in ("", "-wal"):
        (copy / (DATABASE + suffix)).write_bytes((directory / (DATABASE + suffix)).read_bytes())
    return copy
