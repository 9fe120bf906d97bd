"""The keys of a data directory, and that another token key than before is told."""

import resource
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from huahuo.app import credentials, foundation
from huahuo.app.config import Settings
from huahuo.app.credentials import Keys, token_source
from huahuo.app.foundation import following, token_key_of_file, token_key_sentence
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


def test_reading_keys_that_are_not_there_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="huahuo serve --data"):
        credentials.read_keys(Settings(data=tmp_path))


def test_a_directory_that_is_not_there_is_told_with_those_beside_it(tmp_path: Path) -> None:
    credentials.ensure_keys(Settings(data=tmp_path / "shop-data"), FakeAmbient())
    with pytest.raises(ConfigError, match=r"there is no directory .*--data \(here: .*shop-data\)"):
        credentials.read_keys(Settings(data=tmp_path / "huahuo-data"))


def test_keys_do_not_show_themselves(tmp_path: Path) -> None:
    made = credentials.ensure_keys(Settings(data=tmp_path), FakeAmbient())
    assert repr(made) == "Keys([sealed])"


def test_a_log_is_opened_without_the_token_key_that_only_the_service_was_given(tmp_path: Path) -> None:
    made = credentials.ensure_keys(Settings(data=tmp_path, jwt_secret="s" * 32), FakeAmbient())
    assert credentials.read_master_key(Settings(data=tmp_path)) == made.master_key
    with pytest.raises(ConfigError, match="set HUAHUO_JWT_SECRET"):
        credentials.read_keys(Settings(data=tmp_path))


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


DAY_MS = 86_400_000


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


def test_a_rotation_that_names_the_former_key_is_not_told() -> None:
    first = following(None, keys("a"), 0)
    assert token_key_sentence(first, keys("b", "a"), 0) == ""
    assert token_key_sentence(following(first, keys("b", "a"), 0), keys("b"), 0) == ""


def test_a_change_is_told_until_the_former_key_is_back_or_named_or_a_month_has_passed() -> None:
    changed = following(following(None, keys("a"), 0), keys("b"), 0)
    assert token_key_sentence(changed, keys("b"), 29 * DAY_MS)
    assert token_key_sentence(changed, keys("b"), 31 * DAY_MS) == ""
    assert token_key_sentence(changed, keys("b", "a"), 0) == ""
    assert token_key_sentence(changed, keys("a"), 0) == ""
    assert following(changed, keys("a"), 0).former == ""


def test_a_change_that_was_named_at_a_later_start_is_not_told_again() -> None:
    changed = following(following(None, keys("a"), 0), keys("b"), 0)
    named = following(changed, keys("b", "a"), DAY_MS)
    assert token_key_sentence(named, keys("b"), 2 * DAY_MS) == ""


def test_a_change_is_told_although_the_key_before_the_former_one_is_named() -> None:
    changed = following(following(None, keys("a"), 0), keys("b"), 0)
    assert token_key_sentence(changed, keys("c", "a"), DAY_MS)
    assert token_key_sentence(following(changed, keys("c", "a"), DAY_MS), keys("c", "a"), DAY_MS)
