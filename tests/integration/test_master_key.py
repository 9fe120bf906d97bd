"""The file of the master key under a running service, and its absence at a start."""

import asyncio
import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from huahuo.app import ground
from huahuo.app.ground import KeyFile
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.executor import InlineExecutor
from tests.support.drivers.http import client as http_client
from tests.support.patience import WITHIN_S
from tests.support.worlds.storing import stored

KEY = bytes(range(32))


def watched(tmp_path: Path) -> tuple[KeyFile, Path]:
    path = tmp_path / "master.key"
    tmp_path.mkdir(exist_ok=True)
    path.write_text(KEY.hex() + "\n")
    return KeyFile(tmp_path, KEY, InlineExecutor()), path


async def test_a_key_that_was_deleted_is_written_again_with_an_alarm(tmp_path: Path) -> None:
    file, path = watched(tmp_path)
    path.unlink()
    with capture_logs() as logs:
        await file.look()
    assert [(log["event"], log["log_level"]) for log in logs] == [("master_key_gone", "error")]
    assert (path.read_text(), path.stat().st_mode & 0o777) == (KEY.hex() + "\n", 0o600)
    assert file.sentence() is None


async def test_a_key_that_cannot_be_written_again_is_told_of_with_what_would_be_lost(tmp_path: Path) -> None:
    file, path = watched(tmp_path / "data")
    path.unlink()
    path.parent.rmdir()
    with capture_logs() as logs:
        await file.look()
        await file.look()
    assert [log["event"] for log in logs] == ["master_key_lost"], "once"
    told = file.sentence()
    assert told is not None
    assert "no stored password can be read" in told


async def test_a_key_that_a_full_disk_had_no_room_for_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file, path = watched(tmp_path)
    path.unlink()
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", is_full)
        await file.look()
    told = file.sentence()
    assert told is not None
    assert "cannot be written again: No space left on device" in told
    assert not path.exists(), "a part of a key is none"
    await file.look()
    assert (path.read_text(), file.sentence()) == (KEY.hex() + "\n", None)


async def test_a_process_without_descriptors_says_nothing_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    file, path = watched(tmp_path)
    with monkeypatch.context() as limited, capture_logs() as logs:
        limited.setattr(Path, "open", none_left)
        await file.look()
        limited.undo()
        limited.setattr(os, "open", none_left)
        path.unlink()
        await file.look()
    assert (file.sentence(), logs) == (None, [])


@pytest.mark.parametrize("text", ["ab" * 32 + "\n", "", "no key", "\0" * 5000])
async def test_another_key_in_its_place_is_told_of_until_the_former_one_is_back(
    tmp_path: Path, text: str
) -> None:
    file, path = watched(tmp_path)
    path.write_text(text)
    await file.look()
    told = file.sentence()
    assert told is not None
    assert "keep it running until the former file is back" in told
    assert path.read_text() == text, "it may be somebody's only copy"
    with capture_logs() as logs:
        path.write_text(KEY.hex().upper() + "\u3000\r\n")
        await file.look()
    assert file.sentence() is None
    assert [log["event"] for log in logs] == ["master_key_is_back"]


async def test_a_directory_in_its_place_is_told_of(tmp_path: Path) -> None:
    file, path = watched(tmp_path)
    path.unlink()
    path.mkdir()
    await file.look()
    assert file.sentence() is not None


async def test_readyz_tells_of_another_key_and_the_service_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ground, "KEY_FILE_LOOK_S", 0.01)
    async with stored(tmp_path / "data") as s, http_client(s.app.url) as http:
        path = tmp_path / "data" / "master.key"
        former = path.read_text()
        path.write_text("ab" * 32)
        async with asyncio.timeout(WITHIN_S):
            while "was replaced by another key" not in (answer := await http.get("/readyz")).text:
                pass
        assert answer.status_code == 200, "a supervisor must not restart what has the last copy"
        assert answer.text.startswith("ready; ")
        assert "huahuo_master_key_lost 1.0" in (await http.get("/metrics")).text
        path.write_text(former)
        async with asyncio.timeout(WITHIN_S):
            while (await http.get("/readyz")).text.strip() != "ready":
                pass


async def test_a_given_key_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ground, "KEY_FILE_LOOK_S", 0.01)
    async with stored(tmp_path / "data", master_key="cd" * 32) as s, s.client(1, admin=True) as client:
        await client.send("publish", stream="group/ops", type="said")
    assert not (tmp_path / "data" / "master.key").exists()


async def test_a_start_without_the_key_of_its_log_is_refused_and_makes_none(tmp_path: Path) -> None:
    async with stored(tmp_path / "data"):
        pass
    path = tmp_path / "data" / "master.key"
    former = path.read_text()
    path.unlink()
    with pytest.raises(
        ConfigError, match=r"master\.key is gone, and .*log\.db was made with it: put the key"
    ):
        async with stored(tmp_path / "data"):
            pass
    assert not path.exists()
    path.write_text(former)
    async with stored(tmp_path / "data"):
        pass


async def test_a_start_with_another_key_is_told_what_to_do(tmp_path: Path) -> None:
    async with stored(tmp_path / "data"):
        pass
    (tmp_path / "data" / "master.key").write_text("ab" * 32)
    with pytest.raises(
        HuahuoError, match=r"another master key: put the key that belongs to it into master\.key"
    ):
        async with stored(tmp_path / "data"):
            pass
