"""Another token key than at the last start is told: under it every older token is refused."""

from pathlib import Path

from structlog.testing import capture_logs

from huahuo.app import ground
from huahuo.app.credentials import Keys
from huahuo.app.ground import following, token_key_of_file, token_key_sentence
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from tests.support.worlds.logs import MASTER_KEY

DAY_MS = 86_400_000


def keys(letter: str, *previous: str) -> Keys:
    return Keys(letter.encode() * 32, MASTER_KEY, tuple(one.encode() * 32 for one in previous))


async def started(directory: Path, secrets: Keys, ambient: FakeAmbient) -> list[str]:
    """What a start says."""
    log = await SqliteLog.open(directory, ambient=ambient, master_key=MASTER_KEY, build="b")
    with capture_logs() as logs:
        await ground.note_token_key(log, secrets, ambient)
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


async def test_neither_a_key_nor_its_plain_hash_is_in_the_file(tmp_path: Path) -> None:
    await started(tmp_path, keys("a"), FakeAmbient(1))
    assert b"a" * 32 not in (tmp_path / DATABASE).read_bytes()
    other = Keys(b"a" * 32, bytes(32))
    assert following(None, other, 0).mark != following(None, keys("a"), 0).mark


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
