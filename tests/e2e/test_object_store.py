"""`huahuo backup` and `restore` with an object store: a real command, a real service, a real S3 server."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.storage import copying
from huahuo.storage.copying import Objects
from huahuo.transport.client.client import Client
from tests.support.drivers.command_line import huahuo
from tests.support.patience import WITHIN_S
from tests.support.servers.object_store import ACCESS, BUCKET, object_store
from tests.support.servers.serving import JWT_SECRET, MASTER_KEY, Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

KEYS = {"HUAHUO_MASTER_KEY": MASTER_KEY, "HUAHUO_JWT_SECRET": JWT_SECRET}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with object_store(tmp_path_factory.mktemp("s3")) as environ:
        yield environ


def run(store: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return huahuo(*arguments, **store, **KEYS)


@pytest.fixture
def here(store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a backup, and the environment that reaches the store."""
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "log.db").write_bytes(b"log")
    (tmp_path / "backup.json").write_text("{}")
    return tmp_path


async def publish(server: Serving, count: int) -> None:
    token = server.token(1, "root", admin=True)
    async with asyncio.timeout(WITHIN_S), Client(server.url, token=token, client="root") as root:
        for n in range(count):
            await root.send("publish", stream="group/ops", type="tick", n=n)


async def test_a_backup_of_a_running_service_comes_back_whole_from_the_newest(
    store: dict[str, str], tmp_path: Path
) -> None:
    address = f"s3://{BUCKET}/whole"
    with serving(tmp_path / "data") as server:
        await publish(server, 3)
        run(store, "backup", "--to", address, "--data", str(server.data))
        await publish(server, 4)
        made = run(store, "backup", address, "--data", str(server.data), "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    back = run(store, "restore", address, "--data", str(tmp_path / "back"), "--json")
    assert back.returncode == 0, back.stderr
    assert json.loads(back.stdout)["position"] == told["position"]
    log = run(store, "replay", "log", "group/ops", "--data", str(tmp_path / "back"), "--json")
    assert [json.loads(line)["data"]["n"] for line in log.stdout.splitlines()] == [0, 1, 2, 0, 1, 2, 3]
    assert [file.name for file in (tmp_path / "back").glob("backup-*")] == []


def test_a_damaged_backup_is_named_by_its_address_and_not_by_a_copy_that_is_gone(
    store: dict[str, str], here: Path, tmp_path: Path
) -> None:
    address = Objects(f"s3://{BUCKET}/damaged").put(here, "2026-01-01T000000Z")
    back = run(store, "restore", address, "--data", str(tmp_path / "back"))
    assert back.returncode == 1
    assert f"the backup {address} is damaged, and nothing was restored" in back.stderr


def test_a_backup_is_named_and_others_are_deleted_beyond_those_to_keep(here: Path) -> None:
    objects = Objects(f"s3://{BUCKET}/kept")
    for name in ("2026-01-01T000000Z", "2026-01-02T000000Z", "2026-01-03T000000Z"):
        assert objects.put(here, name) == f"s3://{BUCKET}/kept/{name}"
    assert objects.keep(2) == ["2026-01-01T000000Z"]
    assert objects.names() == ["2026-01-02T000000Z", "2026-01-03T000000Z"]
    (here / "back").mkdir()
    Objects(f"s3://{BUCKET}/kept/2026-01-02T000000Z").get(here / "back")
    assert (here / "back" / "log.db").read_bytes() == b"log"
    with pytest.raises(ConfigError, match="there is no backup at s3://backups/kept/2026-01-01T000000Z"):
        Objects(f"s3://{BUCKET}/kept/2026-01-01T000000Z").get(here / "back")


def test_a_folder_whose_upload_broke_off_is_no_backup(here: Path) -> None:
    (here / "backup.json").unlink()
    objects = Objects(f"s3://{BUCKET}/broken")
    objects.put(here, "2026-01-01T000000Z")
    assert objects.names() == []


def test_a_store_that_refuses_is_told_in_one_line_without_the_secret(here: Path) -> None:
    with pytest.raises(HuahuoError) as refused:
        Objects("s3://no-such-bucket/x").put(here, "2026-01-01T000000Z")
    said = str(refused.value)
    assert said.startswith("s3://no-such-bucket/x: ")
    assert "\n" not in said
    assert ACCESS["AWS_SECRET_ACCESS_KEY"] not in said


@pytest.mark.parametrize("address", ["s3://", "s3:///x", "s3://bucket/x?y=1", "https://bucket/x"])
def test_what_is_no_address_of_backups_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        Objects(address)


@pytest.mark.parametrize("arguments", [("a", "--to", "b"), ("folder", "--keep", "3")])
def test_an_unclear_target_is_refused(
    store: dict[str, str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert run(store, "backup", *arguments, "--data", str(tmp_path)).returncode == 2


async def test_a_backup_of_the_schedule_goes_there_is_restored_from_there_and_old_ones_go(
    store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    address, ambient = f"s3://{BUCKET}/schedule", FakeAmbient()
    with serving(tmp_path / "data") as server:
        await publish(server, 3)
    for _ in range(3):
        outcome = await copying.run(server.data, address, 2, 3600.0, ambient)
        assert (outcome.error, outcome.position) == ("", 3)
        ambient.advance(3600)
    assert len(Objects(address).names()) == 2
    assert [file.name for file in server.data.glob("unfinished-*")] == []
