"""Backups on a schedule, and the rules of retention as the setting writes them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.backup import put_back
from huahuo.eventstore.care.pruning import RetentionRule
from huahuo.eventstore.core.reader import AUDIT_STREAM
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.eventstore.sqlite.schema import DATABASE
from huahuo.storage import copying
from huahuo.storage.copying import Outcome, name_at, run, staged
from huahuo.storage.upkeep import RETRY_S, Backups, rules_of
from tests.support.worlds.logs import MemoryEngine, append, event, opened

HOUR_S = 3600.0
KEEP = 3
_MAKING = """
import sys
from pathlib import Path
from huahuo.storage.copying import staged
with staged(Path(sys.argv[1])) as folder:
    (folder / "log.db").write_bytes(b"half of it")
    print("begun", flush=True)
    sys.stdin.read()
"""


class Place(NamedTuple):
    data: Path
    target: Path
    ambient: FakeAmbient


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    data = tmp_path / "data"
    log = await SqliteLog.open(data, ambient=FakeAmbient(), master_key=b"k" * 32, build="test")
    for _ in range(3):
        await log.append(append(event("group/ops")))
    await log.close()
    return Place(data, tmp_path / "backups", FakeAmbient())


async def backed_up(place: Place) -> Outcome:
    return await run(place.data, str(place.target), KEEP, HOUR_S, place.ambient)


def kept(place: Place) -> list[str]:
    return sorted(one.name for one in place.target.iterdir())


async def test_a_backup_is_made_and_the_next_one_only_when_it_is_due(place: Place) -> None:
    outcome = await backed_up(place)
    assert (outcome.made, outcome.position, outcome.error) == (name_at(place.ambient.now_ms()), 3, "")
    assert kept(place) == [outcome.made]
    place.ambient.advance(1000)
    assert (await backed_up(place)).due_in_s == pytest.approx(HOUR_S - 1000, abs=1)
    place.ambient.advance(HOUR_S)
    assert (await backed_up(place)).made
    assert len(kept(place)) == 2


async def test_only_the_newest_stay_and_what_is_no_backup_is_left_alone(place: Place) -> None:
    place.target.mkdir()
    (place.target / "notes").mkdir()
    (place.target / "2020-01-01T000000Z").mkdir()  # of its time, but without a manifest
    made = []
    for _ in range(KEEP + 2):
        made.append((await backed_up(place)).made)
        place.ambient.advance(HOUR_S)
    assert kept(place) == ["2020-01-01T000000Z", *made[-KEEP:], "notes"]


async def test_a_backup_that_cannot_be_restored_does_not_count_and_deletes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (await backed_up(place)).made
    place.ambient.advance(HOUR_S)
    whole = put_back

    async def damaged(backup: Path, directory: Path) -> object:
        with (backup / DATABASE).open("r+b") as file:
            file.seek(8192)
            file.write(b"\xff" * 8192)
        return await whole(backup, directory)

    monkeypatch.setattr(copying, "put_back", damaged)
    outcome = await run(place.data, str(place.target), 1, HOUR_S, place.ambient)
    assert outcome.error
    assert kept(place) == [good]


async def test_without_room_for_it_nothing_is_copied(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1 << 20))
    outcome = await backed_up(place)
    assert "1 MiB are free" in outcome.error
    assert kept(place) == []


async def test_what_a_killed_backup_left_is_removed_by_the_next_one(place: Place) -> None:
    place.target.mkdir()
    words = [sys.executable, "-c", _MAKING, str(place.target)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as making:
        assert making.stdout is not None
        assert making.stdout.readline() == b"begun\n"
        making.kill()
    (left,) = kept(place)
    made = (await backed_up(place)).made
    assert kept(place) == [made]
    assert made != left


async def test_a_backup_that_is_being_made_is_left_alone(place: Place) -> None:
    place.target.mkdir()
    with staged(place.target) as other:
        made = (await backed_up(place)).made
        assert kept(place) == [made, other.name]


class Maker:
    """Gives one outcome after the other."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes: Iterator[Outcome] = iter(outcomes)

    async def __call__(self) -> Outcome:
        return next(self._outcomes)


async def test_a_failure_is_told_until_a_backup_works_again_and_both_are_recorded() -> None:
    engine = MemoryEngine()
    async with opened(engine) as log:
        made = Outcome(made=name_at(engine.ambient.now_ms()), position=7)
        maker = Maker(Outcome(error="no room"), made)
        backups = Backups(log, engine.ambient, maker, HOUR_S)
        assert await backups.once() == RETRY_S
        assert backups.sentence() == "the last backup failed: no room"
        assert await backups.once() == HOUR_S
        assert backups.sentence() is None
        assert (backups.failures, backups.made) == (1, 1)
        told = [one.type for one in await log.read(AUDIT_STREAM, 0, events_max=9)]
        assert told == ["backup_failed", "backed_up"]


async def test_after_a_restart_the_age_of_the_newest_backup_is_known_and_none_is_made_too_early() -> None:
    engine = MemoryEngine()
    async with opened(engine) as log:
        backups = Backups(log, engine.ambient, Maker(Outcome(due_in_s=600)), HOUR_S)
        assert await backups.once() == 600
        assert backups.age_s == pytest.approx(3000, abs=1)
        assert backups.made == 0


DAY_MS = 86_400_000


def test_a_rule_has_a_pattern_and_a_span_or_a_size_or_both() -> None:
    assert rules_of(("group/*=30d", "chat/*=500MiB", "ds/*=7d 1GiB", "group/kept=forever")) == [
        RetentionRule(streams="group/*", older_than_ms=30 * DAY_MS),
        RetentionRule(streams="chat/*", bytes_max=500 << 20),
        RetentionRule(streams="ds/*", older_than_ms=7 * DAY_MS, bytes_max=1 << 30),
        RetentionRule(streams="group/kept"),
    ]


@pytest.mark.parametrize("text", ["group/*", "=30d", "group/*=", "group/*=soon", "group/*=5 GiB", "a=-1d"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"rule|span"):
        rules_of((text,))
