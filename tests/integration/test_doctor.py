"""`huahuo doctor` finds each of these planted faults, names its subject, and says what to do."""

import asyncio
import contextlib
import json
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from huahuo import Huahuo, Refused
from huahuo.app import foundation
from huahuo.app.credentials import Keys
from huahuo.app.foundation import World
from huahuo.app.process import Parts
from huahuo.app.service_port import WaitingRoom
from huahuo.cli import maintenance
from huahuo.cli.doctor import examine
from huahuo.cli.doctor_log import Finding
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import FakeAmbient, SystemAmbient
from huahuo.eventstore.care.backup import put_back
from huahuo.eventstore.model import RowPut
from huahuo.eventstore.sqlite.log import SqliteLog, open_log
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.options import table
from tests.support.drivers.http import client
from tests.support.models.memory_sequencer import MemoryOrder, MemorySequencer
from tests.support.worlds.logs import append, event
from tests.support.worlds.sqlite_logs import sql
from tests.support.worlds.wire import until

YEAR_MS = 365 * 86_400_000
MASTER = "ab" * 32


class Plant(NamedTuple):
    """The directory and the settings to spoil."""

    data: Path
    settings: dict[str, Any]
    environ: dict[str, str]
    stack: contextlib.ExitStack

    def sql(self, *statements: str) -> None:
        """Change the database as no program of ours would."""
        connection = sqlite3.connect(self.data / "log.db", isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.close()


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def a_file_for_a_directory(p: Plant) -> None:
    shutil.rmtree(p.data)
    p.data.write_bytes(b"")


def port_taken(p: Plant) -> None:
    listening = p.stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    p.settings["port"] = listening.getsockname()[1]


def old_backup(p: Plant) -> None:
    made = p.data.parent / "backups" / "2020-01-01T000000Z"
    made.mkdir(parents=True)
    (made / "backup.json").write_text("{}")
    p.settings.update(backup_every_s=3600.0, backup_to=str(made.parent))


def backups_into_a_file(p: Plant) -> None:
    (p.data.parent / "backups").write_text("")
    p.settings.update(backup_every_s=3600.0, backup_to=str(p.data.parent / "backups" / "daily"))


FAULTS: dict[str, tuple[Callable[[Plant], object], str, str, str]] = {
    # name: fault, level, subject, a word of what to do
    "event changed": (
        lambda p: p.sql("UPDATE event SET body = CAST('{}' AS BLOB) WHERE position = 3"),
        "error",
        "content",
        "restore",
    ),
    "event gone": (lambda p: p.sql("DELETE FROM event WHERE position = 3"), "error", "content", "restore"),
    "end lost": (
        lambda p: p.sql(
            "DELETE FROM event WHERE position > 15",
            "DELETE FROM seq_index WHERE position > 15",
            "UPDATE meta SET value = CAST('15' AS BLOB) WHERE key = 'indexed'",
        ),
        "error",
        "log",
        "restore",
    ),
    "row changed": (
        lambda p: p.sql("UPDATE projection SET value = CAST('other' AS BLOB) WHERE tbl = 'orders'"),
        "error",
        "content",
        "restore",
    ),
    "name changed": (
        lambda p: p.sql("UPDATE stream SET name = 'group/x' WHERE id = 1"),
        "error",
        "log|content",
        "restore|salvage",
    ),
    "place gone": (lambda p: p.sql("DELETE FROM seq_index WHERE position = 4"), "error", "log", "salvage"),
    "newer format": (
        lambda p: p.sql("PRAGMA user_version = 99"),
        "error",
        "log",
        "a newer version of huahuo wrote this log",
    ),
    "page spoilt": (lambda p: overwrite(p.data / "log.db", 8192, b"\xff" * 4096), "error", "log|content", ""),
    "database gone": (lambda p: (p.data / "log.db").unlink(), "error", "log", "restore"),
    "master gone": (lambda p: (p.data / "master.key").unlink(), "error", "keys", "put the key"),
    "other master": (lambda p: (p.data / "master.key").write_text("cd" * 32 + "\n"), "error", "log", "key"),
    "other token key": (
        lambda p: (p.data / "jwt.secret").write_text("t" * 40 + "\n"),
        "warning",
        "keys",
        "HUAHUO_JWT_SECRETS_PREVIOUS",
    ),
    "short secret": (lambda p: (p.data / "jwt.secret").write_text("short\n"), "error", "keys", "32"),
    "open key": (lambda p: (p.data / "master.key").chmod(0o644), "error", "keys", "chmod 600"),
    "open directory": (lambda p: p.data.chmod(0o755), "warning", "data", "chmod 700"),
    "stale service": (
        lambda p: (p.data / "service.json").write_text(
            json.dumps({"url": "http://127.0.0.1:1", "pid": 2**22 + 1})
        ),
        "warning",
        "service",
        "next start",
    ),
    "left over": (lambda p: (p.data / "unfinished-x1").mkdir(), "warning", "data", "remove"),
    "port taken": (port_taken, "error", "port", "--port"),
    "little room": (lambda p: p.settings.update(disk_low_bytes=1 << 60), "error", "disk", "Delete files"),
    "old backup": (old_backup, "error", "backups", "/readyz"),
    "backups into a file": (backups_into_a_file, "error", "backups", "is no directory"),
    "no target": (lambda p: p.settings.update(backup_to=""), "warning", "backups", "backup_to"),
    "a file for a directory": (a_file_for_a_directory, "error", "data", "is no directory"),
    "wrong rule": (lambda p: p.settings.update(retention=("group/*=soon",)), "error", "retention", "setting"),
    "no front end": (
        lambda p: p.settings.update(classic_ui=str(p.data / "nothing")),
        "error",
        "pages",
        "folder",
    ),
    "wrong dictionary": (
        lambda p: p.settings.update(dictionary=str(p.data / "nothing.zdict")),
        "error",
        "dictionary",
        "setting",
    ),
    "keys in the open": (
        lambda p: p.settings.update(jwks_url="http://issuer.example.com/keys"),
        "error",
        "tokens",
        "http://",
    ),
    "open to all": (lambda p: p.settings.update(host="0.0.0.0"), "warning", "network", "TLS"),
    "misspelt": (lambda p: p.environ.update(HUAHUO_PROT="80"), "warning", "environment", "HUAHUO_PROT"),
}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory without a fault. Tests spoil copies of it."""
    data = tmp_path_factory.mktemp("healthy") / "data"

    async def fill() -> None:
        ambient, key = SystemAmbient(), bytes.fromhex(MASTER)
        log = await SqliteLog.open(data, ambient=ambient, master_key=key, build="test")
        for number in range(20):
            put = RowPut("orders", "", b"%d" % number, b"{}")
            one = append(event("group/ops", b'{"n":%d}' % number))
            await log.append(msgspec.structs.replace(one, rows=(put,), ts_ms=ambient.now_ms()))
        await foundation.note_token_key(log, Keys(b"s" * 40, key), ambient)
        await log.close()

    asyncio.run(fill())
    data.chmod(0o700)
    for name, text in (("master.key", MASTER), ("jwt.secret", "s" * 40)):
        (data / name).write_text(text + "\n")
        (data / name).chmod(0o600)
    return data


@pytest.fixture
def plant(healthy: Path, tmp_path: Path) -> Iterator[Plant]:
    data = tmp_path / "data"
    shutil.copytree(healthy, data)
    with contextlib.ExitStack() as stack:
        yield Plant(data, {"port": 0}, {}, stack)


async def found(plant: Plant, ambient: Any = None) -> list[Finding]:
    settings = table().load(environ={}, flags={"data": plant.data, **plant.settings})
    return await examine(settings, ambient or SystemAmbient(), plant.environ)


async def test_without_a_fault_it_finds_none_but_that_there_are_no_backups(plant: Plant) -> None:
    assert [one.about for one in await found(plant) if one.level != "ok"] == ["backups"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_it_finds_the_fault_and_says_what_to_do(plant: Plant, fault: str) -> None:
    spoil, level, about, words = FAULTS[fault]
    spoil(plant)
    findings = [one for one in await found(plant) if one.level == level and one.about in about.split("|")]
    assert findings, "not found"
    assert any(word in one.text for one in findings for word in words.split("|")), findings


async def test_a_row_that_somebody_deleted_by_sql_is_told_of(plant: Plant) -> None:
    assert not [one for one in await found(plant) if one.level == "error"]
    plant.sql("DELETE FROM projection WHERE key = CAST('3' AS BLOB)")
    [finding] = [one for one in await found(plant) if one.level == "error"]
    assert (finding.about, "restore" in finding.text) == ("log", True)


async def test_a_clock_that_was_never_set_is_found(plant: Plant) -> None:
    findings = await found(plant, FakeAmbient(now_ms=YEAR_MS))
    assert any(one.about == "clock" and one.level == "error" for one in findings)


async def test_a_clock_behind_the_log_is_found(plant: Plant) -> None:
    now_ms = SystemAmbient().now_ms() - 86_400_000
    findings = await found(plant, FakeAmbient(now_ms=now_ms))
    assert any(one.about == "clock" and "future" in one.text for one in findings)


async def test_a_service_that_has_the_log_open_is_no_fault(plant: Plant) -> None:
    log = await SqliteLog.open(
        plant.data, ambient=SystemAmbient(), master_key=bytes.fromhex(MASTER), build="test"
    )
    assert [one for one in await found(plant) if one.level == "error"] == []
    await log.close()


pytestmark = pytest.mark.anyio
NODE_MASTER, SECRET = bytes.fromhex("ab" * 32), "s" * 40


def changed(data: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(data / DATABASE, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount > 0


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    folder = tmp_path / "a"
    log = await open_log(
        folder, ambient=SystemAmbient(), master_key=NODE_MASTER, build="t",
        sequencer=MemorySequencer(MemoryOrder()), node="a",
    )  # fmt: skip
    await log.reserve("mailbox", 1)
    log.take("mailbox", 1)
    for n in range(5):
        row = RowPut("orders", "", b"%d" % n, b"{}")
        await log.append(msgspec.structs.replace(append(event("s", b'{"n":%d}' % n)), rows=(row,)))
    await log.close()
    folder.chmod(0o700)
    for name, text in (("master.key", NODE_MASTER.hex()), ("jwt.secret", SECRET), ("node.name", "a")):
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o600)
    return folder


async def errors(data: Path, log: str = "") -> list[Finding]:
    settings = table().load(environ={}, flags={"data": data, "port": 0, "log": log})
    return [one for one in await examine(settings, SystemAmbient(), {}) if one.level == "error"]


@pytest.mark.parametrize("log", ["", "nats://127.0.0.1"], ids=["unnamed", "named"])
async def test_the_directory_of_a_stopped_node_has_no_fault(data: Path, log: str) -> None:
    assert await errors(data, log) == []


NODE_FAULTS: dict[str, Callable[[Path], object]] = {
    "end gone": lambda data: changed(
        data, "DELETE FROM event WHERE position = (SELECT max(position) FROM event)"
    ),
    "body changed": lambda data: changed(
        data, "UPDATE event SET body = CAST('{}' AS BLOB) WHERE position = 1"
    ),
    "note gone": lambda data: changed(data, "DELETE FROM meta WHERE key = 'shared'"),
    "note older": lambda data: changed(data, "DELETE FROM passed WHERE offset > 2"),
    "counter lower": lambda data: changed(data, "DELETE FROM counter"),
    "row gone": lambda data: changed(data, "DELETE FROM projection WHERE tbl = 'orders'"),
    "no database": lambda data: (data / DATABASE).write_bytes(b"not a database" * 1000),
    "differs": lambda data: (data / "node.differs").write_text(
        "the history of this node differs from that of b"
    ),
}


@pytest.mark.parametrize("fault", NODE_FAULTS)
@pytest.mark.parametrize("log", ["", "nats://127.0.0.1"], ids=["unnamed", "named"])
async def test_what_is_damaged_is_found_and_a_copy_is_advised(data: Path, fault: str, log: str) -> None:
    NODE_FAULTS[fault](data)
    found = [one.text for one in await errors(data, log)]
    assert found
    assert any("it fetches a copy from another node" in text for text in found), found


async def test_a_node_with_a_damaged_directory_does_not_start_and_says_to_fetch_a_copy(data: Path) -> None:
    NODE_FAULTS["note older"](data)
    settings = table().load(environ={}, flags={"data": data, "port": 0, "log": "nats://127.0.0.1:9"})
    secrets, room = Keys(SECRET.encode(), NODE_MASTER), WaitingRoom(settings.host, settings.port)
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


STREAM = "user/42"


async def test_a_changed_ack_is_corrupt_for_those_who_ask_about_it_and_an_alarm(tmp_path: Path) -> None:
    async with Huahuo(plugins=[], data=tmp_path, port=0) as app:
        await app.publish_many([(STREAM, "said", {"n": n}) for n in range(5)])
        async with client(app.url, app.token(42)) as c:
            for name in ("one", "two"):
                await c.post("/acks", json={"cursors": {STREAM: 1}, "client": name})
            await until(lambda: len(sql(tmp_path, "SELECT 1 FROM ack")) == 2)
            sql(tmp_path, "UPDATE ack SET seq = 5 WHERE client = 'one'")
            changed = await c.get("/seen", params={"stream": STREAM, "seq": 5, "client": "one"})
            assert (changed.status_code, changed.json()["code"]) == (500, "corrupt")
            with pytest.raises(Refused, match="damaged"):
                await app.seen(STREAM, 5, client="one", timeout_s=1)
            other = await c.get("/seen", params={"stream": STREAM, "seq": 5, "client": "two"})
            assert other.json()["seen"] is False
            ready = await c.get("/readyz")
            assert ready.status_code == 503
            assert "ack user/42 one user/42" in ready.text
