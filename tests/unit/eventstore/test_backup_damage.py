"""A backup that is not what was backed up is never restored, whatever was changed in it."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.backup import MANIFEST, Manifest, back_up, put_back, taken_out_of
from huahuo.eventstore.care.pruning import CompactionPolicy, compact
from huahuo.eventstore.errors import Damaged, EventStoreError
from huahuo.eventstore.model import (
    Ack,
    Append,
    CommandKey,
    CommandRecord,
    Keyframe,
    NewEvent,
    RowPut,
    Secret,
    SecretPut,
)
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import looped
from tests.support.worlds.spoilt import filled, flip
from tests.support.worlds.sqlite_logs import opened

FLIPS = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup with rows, answers, secrets, blobs, and events that were pruned with a receipt."""
    made = tmp_path_factory.mktemp("backup")

    @looped
    async def make() -> None:
        log = await opened(made / "data")
        for n in range(60):
            log.take("mailbox")
            body = b'{"n":%d}' % n
            events = (NewEvent(f"user/{n % 3}", "old" if n < 30 else "new", body, entity="mailbox/1"),)
            command = CommandRecord(CommandKey("user/1", "c", f"command-{n}"), b"f", b"{}")
            await log.append(
                Append(
                    ts_ms=n, events=events, command=command, rows=(RowPut("t", "p", body, body),),
                    blobs=(body * 20,), owner="user/1",
                    secrets=(SecretPut(f"mailbox/{n % 4}", "password", Secret("word")),),
                )
            )  # fmt: skip
        await log.put_keyframe(Keyframe("user/1", "fold", "code", 5, b"state"))
        await log.save_acks([Ack("user/1", "c", "user/1", 4), Ack("user/1", "d", "user/1", 5)])
        assert await compact(
            log, CompactionPolicy(types=frozenset({"old"}), before_ms=50), FakeAmbient(1), "user/1"
        )
        await log.count_usage(log.position)
        await log.close()
        await back_up(made / "data" / DATABASE, made / "whole", FakeAmbient(1))

    make()
    return made / "whole"


@pytest.fixture
def backup(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "backup"))


def sql(backup: Path, *statements: str) -> None:
    with closing(sqlite3.connect(backup / DATABASE, isolation_level=None)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0, "it changed something"


def content(database: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for (name,) in tables}


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM event WHERE type = (SELECT id FROM name WHERE text = 'compacted')",
        "UPDATE event SET body = CAST('{' || substr(body, 2) || ' ' AS BLOB) WHERE position = 61",
        "UPDATE pruned SET position = 1000 WHERE position = (SELECT max(position) FROM pruned)",
        "UPDATE pruned SET seq = seq + 1 WHERE position = 1",
        "UPDATE pruned SET chain = x'00' WHERE position = 4",
        "UPDATE pruned SET crc = crc + 1 WHERE position = 2",
        "INSERT INTO pruned SELECT position + 5000, stream, seq + 5000, chain, crc FROM pruned LIMIT 1",
    ],
)
async def test_receipts_and_tombstones_are_what_they_were(backup: Path, tmp_path: Path, change: str) -> None:
    sql(backup, change)
    with pytest.raises(Damaged):
        await put_back(backup, tmp_path / "data")


@pytest.mark.parametrize("seed", range(3))
async def test_a_flipped_bit_is_refused_or_was_in_unused_space(
    whole: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    held = content(whole / DATABASE)
    refused = 0
    for n in range(FLIPS):
        bad, data = tmp_path / f"bad-{n}", tmp_path / f"data-{n}"
        shutil.copytree(whole, bad)
        flip(bad, chance.randrange((bad / DATABASE).stat().st_size))
        try:
            await put_back(bad, data)
        except EventStoreError:
            refused += 1
        else:
            assert content(data / DATABASE) == held
    assert refused


def manifest(backup: Path) -> Manifest:
    return msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)


@pytest.mark.parametrize("change", [{"log": "another"}, {"position": 7}, {"position": 700}, {"chain": "00"}])
async def test_a_manifest_of_another_backup_is_noticed(
    backup: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    other = msgspec.structs.replace(manifest(backup), **change)
    (backup / MANIFEST).write_bytes(msgspec.json.encode(other))
    with pytest.raises(Damaged):
        await put_back(backup, tmp_path / "data")


async def test_a_backup_that_was_served_as_a_directory_is_restored_as_it_was_left(
    backup: Path, tmp_path: Path
) -> None:
    log = await opened(backup)
    await log.append(Append(ts_ms=1, events=(NewEvent("user/1", "new", b"{}"),)))
    position = log.position
    await log.close()
    assert position > manifest(backup).position
    found = await put_back(backup, tmp_path / "data")
    assert found.position == position
    assert taken_out_of(backup, found) is None


@pytest.mark.parametrize("since", [0, 3])
async def test_what_was_cut_off_before_a_backup_was_opened_is_told_of_when_it_is_restored(
    tmp_path: Path, since: int
) -> None:
    backup = tmp_path / "backup"
    await filled(tmp_path / "filled")
    shorter = (tmp_path / "filled" / DATABASE).read_bytes()
    log = await opened(tmp_path / "filled")
    await log.append(Append(ts_ms=1, events=(NewEvent("s0", "new", b"{}"),)))
    await log.close()
    await back_up(tmp_path / "filled" / DATABASE, backup, FakeAmbient(1))
    last = manifest(backup).position
    (backup / DATABASE).write_bytes(shorter)
    log = await opened(backup)
    for _ in range(since):
        await log.append(Append(ts_ms=1, events=(NewEvent("user/1", "new", b"{}"),)))
    await log.close()
    found = await put_back(backup, tmp_path / "data")
    told = taken_out_of(backup, found)
    assert told is not None
    assert told.startswith(f"backup.json says {last}, and the backup ")
