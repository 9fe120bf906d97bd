"""A directory whose files are none: a start ends with a sentence that says which and what to do."""

import asyncio
import contextlib
import errno
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from huahuo.app import service_port
from huahuo.app.config import Settings
from huahuo.app.ground import must_be_files
from huahuo.cli.doctor import examine
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.options import table
from tests.support.drivers.http import client as http_client
from tests.support.worlds.storing import stored

OF_LOG = ("log.db", "log.db-wal", "log.db-shm", "log.mark", "writer.lock", "master.key", "jwt.secret")
MADE_AGAIN = ("mail-search.db", "mail-search.db-wal", "audit.db", "service.json")


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that a service left."""
    data = tmp_path_factory.mktemp("left") / "data"

    async def serve() -> None:
        async with stored(data) as s, s.client(1, admin=True) as client:
            await client.send("publish", stream="group/ops", type="said", text="kept")

    asyncio.run(serve())
    return data


@pytest.fixture
def data(left: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(left, tmp_path / "data"))


async def starts(data: Path) -> bool:
    async with stored(data) as s:
        return s.app.log.head("group/ops").seq == 1


@pytest.mark.parametrize("name", [*OF_LOG, *MADE_AGAIN])
async def test_a_directory_in_place_of_a_file_is_named_with_what_to_do(data: Path, name: str) -> None:
    path = data / name
    former = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(ConfigError, match=rf"{name} is a directory, and a file belongs there: move it away"):
        await starts(data)
    path.rmdir()
    if former is not None:
        path.write_bytes(former)
    assert await starts(data), "nothing was harmed"


@pytest.mark.parametrize("name", OF_LOG)
async def test_a_link_to_a_disk_that_is_not_mounted_is_never_a_loss(
    data: Path, tmp_path: Path, name: str
) -> None:
    path, elsewhere = data / name, tmp_path / "disk" / name
    former = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere)
    with pytest.raises(
        ConfigError, match=rf"{name} is a link to .*, and there is nothing: .* mount it"
    ) as told:
        await starts(data)
    assert "salvage" not in str(told.value)
    assert path.is_symlink()
    path.unlink()
    if former is not None:
        path.write_bytes(former)
    assert await starts(data)


@pytest.mark.parametrize("name", MADE_AGAIN)
async def test_what_can_be_made_again_needs_no_file_where_its_link_leads(
    data: Path, tmp_path: Path, name: str
) -> None:
    (data / name).unlink(missing_ok=True)
    (data / name).symlink_to(tmp_path / "disk" / name)
    assert await starts(data)


@pytest.mark.parametrize("name", [*OF_LOG, "mail-search.db"])
async def test_a_link_to_itself_and_a_pipe_are_named(data: Path, name: str) -> None:
    path = data / name
    path.unlink(missing_ok=True)
    path.symlink_to(path)
    with pytest.raises(ConfigError, match=f"{name} cannot be looked at"):
        await starts(data)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=f"{name} is not a regular file"):
        await starts(data)


def test_a_file_that_this_user_may_not_use_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run as root, which may use all."""
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != "log.mark")
    with pytest.raises(ConfigError, match=r"log\.mark cannot be read and written by this user"):
        must_be_files(Settings(data=data), ())


def test_a_directory_that_this_user_may_not_write_in_is_named_before_the_start_and_by_doctor(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, which may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, _mode: path != data)
    data.chmod(0o555)
    with pytest.raises(ConfigError, match=rf"may not write in .*data: chmod 700 {data}$"):
        must_be_files(Settings(data=data), ())
    settings = table().load(environ={}, flags={"data": data, "port": 0})
    findings = asyncio.run(examine(settings, SystemAmbient(), {}))
    assert ["may not write in" in one.text for one in findings if one.about == "files"] == [True]
    data.chmod(0o700)
    with pytest.raises(ConfigError, match=r"may not write in .*: its disk can only be read"):
        must_be_files(Settings(data=data), ())


def test_a_directory_of_another_user_is_named_and_nothing_is_to_be_moved(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, which may enter all."""

    def denied(_path: Path, **_kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as outside:
        outside.setattr(Path, "stat", denied)
        with pytest.raises(
            ConfigError, match=r"may not enter the directory of .*: start as its owner"
        ) as told:
            must_be_files(Settings(data=data), ())
    assert "move" not in str(told.value).lower()


@pytest.mark.parametrize("name", ["master.key", "jwt.secret"])
async def test_the_file_of_a_key_that_is_given_is_not_looked_at(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / name).symlink_to(tmp_path / "disk" / name)
    async with stored(data, master_key="cd" * 32, jwt_secret="a" * 64):
        pass
    assert (data / name).is_symlink()


async def test_doctor_names_it_too(data: Path) -> None:
    (data / "mail-search.db").unlink(missing_ok=True)
    (data / "mail-search.db").mkdir()
    settings = table().load(environ={}, flags={"data": data, "port": 0})
    findings = await examine(settings, SystemAmbient(), {})
    [told] = [one.text for one in findings if one.about == "files"]
    assert "move it away, and the service makes it again" in told


@pytest.mark.parametrize("name", ["master.key", "jwt.secret", "service.json", "log.db"])
async def test_doctor_names_a_pipe_and_does_not_wait_for_what_comes_out_of_it(data: Path, name: str) -> None:
    (data / name).unlink(missing_ok=True)
    os.mkfifo(data / name)
    settings = table().load(environ={}, flags={"data": data, "port": 0})
    findings = await examine(settings, SystemAmbient(), {})
    assert [name in one.text for one in findings if one.about == "files"] == [True]
    assert service_port.read_address(data) is None


@pytest.mark.parametrize("name", ["master.key", "jwt.secret"])
async def test_a_damaged_key_is_refused_with_what_to_do(data: Path, name: str) -> None:
    (data / name).write_bytes(b"\xff\xfe" * 40)
    with pytest.raises(ConfigError, match=f"{name} is damaged.* Put the key that belongs"):
        await starts(data)


async def test_a_service_tells_that_another_program_wrote_its_log_before_and_goes_on(data: Path) -> None:
    async with stored(data):
        pass  # it closes its log in this directory, of which nothing was known
    with contextlib.closing(sqlite3.connect(data / "log.db", isolation_level=None)) as connection:
        assert connection.execute("DELETE FROM meta WHERE key = 'token_key'").rowcount == 1
    async with stored(data) as s, http_client(s.app.url) as http:
        answer = await http.get("/readyz")
        assert answer.status_code == 200
        assert "ready; log.db was written by another program" in answer.text
        assert "huahuo_log_written_by_others 1.0" in (await http.get("/metrics")).text
