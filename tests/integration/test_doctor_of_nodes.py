"""The directory of a stopped node: what `huahuo doctor` finds damaged, and a backup of it."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from huahuo.app.credentials import Keys
from huahuo.app.ground import World
from huahuo.app.process import Parts
from huahuo.app.service_port import WaitingRoom
from huahuo.cli import maintenance
from huahuo.cli.doctor import examine
from huahuo.cli.doctor_log import Finding
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.care.backup import put_back
from huahuo.eventstore.model import RowPut
from huahuo.eventstore.sqlite.log import open_log
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.options import table
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.logs import append, event

pytestmark = pytest.mark.anyio
MASTER, SECRET = bytes.fromhex("ab" * 32), "s" * 40


def changed(data: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(data / DATABASE, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount > 0


def end_gone(data: Path) -> None:
    changed(data, "DELETE FROM event WHERE position = (SELECT max(position) FROM event)")


def event_changed(data: Path) -> None:
    changed(data, "UPDATE event SET body = CAST('{}' AS BLOB) WHERE position = 1")


def note_gone(data: Path) -> None:
    changed(data, "DELETE FROM meta WHERE key = 'shared'")


def note_older(data: Path) -> None:
    changed(data, "DELETE FROM passed WHERE offset > 2")


def counter_lower(data: Path) -> None:
    changed(data, "DELETE FROM counter")


def row_gone(data: Path) -> None:
    changed(data, "DELETE FROM projection WHERE tbl = 'orders'")


def no_database(data: Path) -> None:
    (data / DATABASE).write_bytes(b"not a database" * 1000)


def differs(data: Path) -> None:
    (data / "node.differs").write_text("the history of this node differs from that of b")


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    folder = tmp_path / "a"
    log = await open_log(
        folder, ambient=SystemAmbient(), master_key=MASTER, build="t",
        sequencer=MemorySequencer(MemoryOrder()), node="a",
    )  # fmt: skip
    await log.reserve("mailbox", 1)
    log.take("mailbox", 1)
    for n in range(5):
        row = RowPut("orders", "", b"%d" % n, b"{}")
        await log.append(msgspec.structs.replace(append(event("s", b'{"n":%d}' % n)), rows=(row,)))
    await log.close()
    folder.chmod(0o700)
    for name, text in (("master.key", MASTER.hex()), ("jwt.secret", SECRET), ("node.name", "a")):
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o600)
    return folder


async def errors(data: Path, log: str = "") -> list[Finding]:
    settings = table().load(environ={}, flags={"data": data, "port": 0, "log": log})
    return [one for one in await examine(settings, SystemAmbient(), {}) if one.level == "error"]


@pytest.mark.parametrize("log", ["", "nats://127.0.0.1"], ids=["unnamed", "named"])
async def test_the_directory_of_a_stopped_node_has_no_fault(data: Path, log: str) -> None:
    assert await errors(data, log) == []


FAULTS = (end_gone, event_changed, note_gone, note_older, counter_lower, row_gone, no_database, differs)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__ for fault in FAULTS])
@pytest.mark.parametrize("log", ["", "nats://127.0.0.1"], ids=["unnamed", "named"])
async def test_what_is_damaged_is_found_and_a_copy_is_advised(
    data: Path, fault: Callable[[Path], None], log: str
) -> None:
    fault(data)
    found = [one.text for one in await errors(data, log)]
    assert found
    assert any("it fetches a copy from another node" in text for text in found), found


async def test_a_node_with_a_damaged_directory_does_not_start_and_says_to_fetch_a_copy(data: Path) -> None:
    note_older(data)
    settings = table().load(environ={}, flags={"data": data, "port": 0, "log": "nats://127.0.0.1:9"})
    secrets, room = Keys(SECRET.encode(), MASTER), WaitingRoom(settings.host, settings.port)
    with pytest.raises(
        HuahuoError, match=r"is damaged: .*; this is the directory of a node: first keep .* empty .* copy"
    ):
        await World().open(settings, secrets, SystemAmbient(), room, Parts())


async def test_a_first_start_that_was_cut_off_is_no_damage(data: Path) -> None:
    for left in data.glob("*"):
        if left.name not in ("master.key", "jwt.secret", "node.name"):
            left.unlink()
    (data / DATABASE).touch(0o600)
    assert await errors(data, "nats://127.0.0.1") == []


def files_of(data: Path) -> dict[str, tuple[int, bytes]]:
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in data.iterdir()}


async def test_a_backup_of_a_stopped_node_needs_no_ordered_log_and_writes_nothing_there(
    data: Path, tmp_path: Path
) -> None:
    before = files_of(data)
    made, again = tmp_path / "backups" / "made", tmp_path / "again"
    loaded = table().load(environ={}, flags={"data": data, "port": 0, "log": "nats://127.0.0.1:9"})
    await maintenance.backup(loaded, SystemAmbient(), str(made), with_keys=True, keep=0, as_json=False)
    assert files_of(data) == before
    assert [file.name for file in made.parent.iterdir()] == ["made"]
    assert (await put_back(made, again)).position == 5
