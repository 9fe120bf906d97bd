"""Content that several owners share, where its row is damaged."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Append
from huahuo.eventstore.sqlite.damage import find_damage
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.sqlite_logs import opened

CONTENT = b"a content that three owners share " * 40

ONE_BYTE = "UPDATE blob SET packed = CAST(substr(packed, 1, 9) || x'ff' || substr(packed, 11) AS BLOB)"


async def shared(directory: Path) -> None:
    log = await opened(directory)
    for _ in range(3):
        await log.append(Append(ts_ms=0, blobs=(CONTENT,)))
    await log.close()


def change(directory: Path, *statements: str) -> None:
    with closing(sqlite3.connect(directory / DATABASE)) as connection, connection:
        for sql in statements:
            connection.execute(sql)


async def test_damaged_content_is_not_called_whole_when_an_owner_leaves(tmp_path: Path) -> None:
    await shared(tmp_path)
    change(tmp_path, ONE_BYTE)
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, drop_blobs=(blob_id(CONTENT),)))
    with pytest.raises(Corrupt):
        await log.blob(blob_id(CONTENT))
    await log.close()
    assert "blob" in str(find_damage(tmp_path / DATABASE))


async def test_a_number_in_place_of_a_content_is_corrupt(tmp_path: Path) -> None:
    """So it looks where the page of another table is in its place."""
    await shared(tmp_path)
    change(tmp_path, "PRAGMA writable_schema=ON", "UPDATE sqlite_master SET sql = replace(sql, 'STRICT', '')")
    change(tmp_path, "UPDATE blob SET packed = 5")
    log = await opened(tmp_path)
    with pytest.raises(Corrupt):
        await log.blob(blob_id(CONTENT))
    assert await log.probe()
    await log.close()
