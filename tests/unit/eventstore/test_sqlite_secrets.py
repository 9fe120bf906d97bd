"""No file of a SQLite log holds a secret in the clear, or a key that was destroyed."""

import asyncio
import itertools
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core.seal import Vault
from huahuo.eventstore.model import Append, Secret, SecretPut
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import MASTER_KEY, event
from tests.support.worlds.sqlite_logs import contents, opened


def wrapped_keys(directory: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(f"{(directory / DATABASE).as_uri()}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT owner, wrapped FROM data_key"))


async def test_no_file_holds_a_secret_or_a_data_key_in_the_clear(tmp_path: Path) -> None:
    log = await opened(tmp_path)
    secret = SecretPut("mailbox/1", "password", Secret("canary-7f3a9c"))
    await log.append(Append(ts_ms=0, events=(event("a"),), secrets=(secret,)))
    box, key = _data_key(wrapped_keys(tmp_path)["mailbox/1"])
    running = contents(tmp_path)
    await log.close()
    for name, data in itertools.chain(running.items(), contents(tmp_path).items()):
        assert b"canary" not in data, name
        assert key not in data, name
        assert MASTER_KEY not in data, name
    assert any(box in data for data in running.values()), "the scan sees what is there"


def _data_key(wrapped: bytes) -> tuple[bytes, bytes]:
    vault = Vault(MASTER_KEY, FakeAmbient(1))
    return wrapped, vault.data_key(wrapped, "mailbox/1")


async def test_when_a_shred_is_acknowledged_no_file_holds_the_key_any_more(tmp_path: Path) -> None:
    """Many owners, so that pages split, merge and move cells before and while keys are erased."""
    rng = random.Random(5)
    log = await opened(tmp_path)
    owners = [f"mailbox/{n}" for n in range(1500)]
    rng.shuffle(owners)
    for some in itertools.batched(owners, 100):
        secrets = tuple(SecretPut(owner, "password", Secret(f"pw {owner}")) for owner in some)
        await log.append(Append(ts_ms=0, secrets=secrets))
    keys = wrapped_keys(tmp_path)
    assert all(any(key in data for data in contents(tmp_path).values()) for key in keys.values())
    rng.shuffle(owners)
    gone: list[str] = []
    for some in itertools.batched(owners[:1200], 150):
        await log.append(Append(ts_ms=0, shred=tuple(some)))
        gone += some
        files = contents(tmp_path)
        left = [owner for owner in gone if any(keys[owner] in data for data in files.values())]
        assert left == []
    kept = owners[1200:]
    assert await log.secret(kept[0], "password") == Secret(f"pw {kept[0]}")
    await log.close()


async def test_a_key_that_a_reader_kept_from_being_erased_is_erased_soon_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huahuo.eventstore.core.writer.CARE_RETRY_S", 0.01)
    log = await opened(tmp_path)
    await log.append(Append(ts_ms=0, secrets=(SecretPut("o", "p", Secret("s")),)))
    key = wrapped_keys(tmp_path)["o"]
    with closing(sqlite3.connect(f"{(tmp_path / DATABASE).as_uri()}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        await log.append(Append(ts_ms=0, shred=("o",)))
        assert any(key in data for data in contents(tmp_path).values()), "the reader hinders"
        reader.execute("COMMIT")
    for _ in range(500):
        if not any(key in data for data in contents(tmp_path).values()):
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("the key is still in a file")
    await log.close()
