"""The files of a SQLite log: filled, looked into, verified."""

import sqlite3
from contextlib import closing
from pathlib import Path

from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import append, event
from tests.support.worlds.sqlite_logs import opened


async def filled(directory: Path, count: int = 10) -> None:
    log = await opened(directory)
    await log.append(append(*(event("a", b"body-%06d" % n) for n in range(count))))
    await log.close()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def sql(directory: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


async def verified(directory: Path) -> int:
    log = await opened(directory)
    count = await log.verify()
    await log.close()
    return count
