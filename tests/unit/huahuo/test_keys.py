"""The keys of a data directory, and that another token key than before is told."""

import resource
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from huahuo.app import credentials, foundation
from huahuo.app.config import Settings
from huahuo.app.credentials import Keys, token_source
from huahuo.app.foundation import token_key_of_file
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import FakeAmbient, SystemAmbient
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import MASTER_KEY


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("jwt_secret", "short"),
        ("jwt_secret", "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYI\n-----END PUBLIC KEY-----"),
        ("master_key", "zz" * 32),
        ("master_key", "ab" * 31),
    ],
)
def test_a_weak_or_malformed_key_is_refused_without_showing_it(
    tmp_path: Path, field: str, value: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        credentials.ensure_keys(Settings(data=tmp_path, **{field: value}), FakeAmbient())  # type: ignore[arg-type]
    assert value not in str(raised.value)


def test_keys_do_not_show_themselves(tmp_path: Path) -> None:
    made = credentials.ensure_keys(Settings(data=tmp_path), FakeAmbient())
    assert repr(made) == "Keys([sealed])"


def test_a_command_without_a_token_says_that_it_needs_one_before_it_speaks_of_directories(
    tmp_path: Path,
) -> None:
    own = Settings(data=tmp_path / "none")
    with pytest.raises(
        ConfigError, match=r"no token: give --token \(or HUAHUO_TOKEN\).*there is no directory"
    ):
        token_source(None, own, SystemAmbient())


def test_a_first_start_that_cannot_write_leaves_no_empty_key_behind(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "d")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (0, hard)
    )  # as on a full disk: a file is made, and no byte of it
    try:
        with pytest.raises(ConfigError, match=r"cannot make .*jwt\.secret"):
            credentials.ensure_keys(settings, FakeAmbient())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(credentials.ensure_keys(settings, FakeAmbient()).master_key) == 32


def keys(letter: str, *previous: str) -> Keys:
    return Keys(letter.encode() * 32, MASTER_KEY, tuple(one.encode() * 32 for one in previous))


async def started(directory: Path, secrets: Keys, ambient: FakeAmbient) -> list[str]:
    """What a start says."""
    log = await SqliteLog.open(directory, ambient=ambient, master_key=MASTER_KEY, build="b")
    with capture_logs() as logs:
        await foundation.note_token_key(log, secrets, ambient)
    await log.close()
    return [line["event"] for line in logs]


async def test_another_key_is_told_at_the_start_and_by_doctor_before_and_after_it(tmp_path: Path) -> None:
    ambient, path = FakeAmbient(1), tmp_path / DATABASE
    assert await started(tmp_path, keys("a"), ambient) == []
    assert await started(tmp_path, keys("a"), ambient) == []
    assert token_key_of_file(path, keys("a"), ambient.now_ms()) == ""
    assert "since the last start" in token_key_of_file(path, keys("b"), ambient.now_ms())
    assert await started(tmp_path, keys("b"), ambient) == ["token_key_changed"]
    assert "was changed on 20" in token_key_of_file(path, keys("b"), ambient.now_ms())
