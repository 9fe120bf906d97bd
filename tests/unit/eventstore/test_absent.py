"""A row that a damaged entry of SQLite's index hides is not taken for absent, also while the service runs."""

from pathlib import Path

import pytest

from huahuo.eventstore.errors import Corrupt
from huahuo.eventstore.model import Append, CommandKey, CommandRecord, RowPut, Secret, SecretPut
from huahuo.eventstore.sqlite.log import SqliteLog
from tests.support.worlds.spoilt import change_key
from tests.support.worlds.sqlite_logs import opened

NUMBER = 40


async def filled(directory: Path) -> None:
    log = await opened(directory)
    for n in range(NUMBER):
        command = CommandRecord(CommandKey("user/1", "c", f"command-{n:02}"), b"f", b"{}")
        rows = (RowPut("table", "part", b"key-%02d" % n, b"value"),)
        secrets = (SecretPut(f"owner-{n:02}", "password", Secret("s")),)
        await log.append(Append(ts_ms=0, rows=rows, secrets=secrets, command=command))
    await log.close()


async def found(log: SqliteLog, table: str, number: int) -> bool:
    if table == "command":
        return await log.command(CommandKey("user/1", "c", f"command-{number:02}")) is not None
    if table == "projection":
        return await log.row("table", "part", b"key-%02d" % number) is not None
    return await log.secret(f"owner-{number:02}", "password") is not None


@pytest.mark.parametrize(("before", "bit"), [(0, 0), (1, 3), (4, 6)])
@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("command", b"command-19"),
        ("projection", b"key-19"),
        ("data_key", b"owner-19"),
        ("sealed", b"owner-19"),
    ],
)
async def test_a_row_that_a_changed_key_hides_is_corrupt_and_not_absent(
    tmp_path: Path, table: str, key: bytes, before: int, bit: int
) -> None:
    await filled(tmp_path)
    change_key(tmp_path, f"sqlite_autoindex_{table}_1", key[: len(key) - before], bit=1 << bit)
    log = await opened(tmp_path)
    told = 0
    for number in range(NUMBER):
        try:
            assert await found(log, table, number)
        except Corrupt:  # of the index, or of another row, which does not fit its checksum
            told += 1
    assert told
    assert log.corruption.places
    await log.close()
