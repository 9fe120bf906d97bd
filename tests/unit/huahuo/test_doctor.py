"""What `huahuo doctor` says of followers, open effects, and the place of backups."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Raw

from huahuo.actors.effects import facts
from huahuo.actors.followers import record
from huahuo.actors.followers.record import DeadLetter
from huahuo.cli import doctor_log
from huahuo.cli.doctor import unusable
from huahuo.cli.doctor_log import Finding
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Append
from tests.support.models.faulty_log import faulty_log, write

LETTER = DeadLetter("order/1", 1, "t", 3, "KeyError", 1)


async def told(*, paused: bool = False, dead: bool = False) -> Finding | None:
    log = await faulty_log()
    assert await doctor_log.followers_of_log(log) is None
    await write(log, "order/1", "order/2", "order/3")
    rows = (record.put_cursor("a", 3, 1), record.put_cursor("b", 1, 1))
    await log.append(Append(ts_ms=1, rows=rows))
    if paused:
        await log.append(record.pausing("a", "cli/me", 1, paused=True))
    if dead:
        await log.append(Append(ts_ms=1, rows=(record.put_dead("b", 1, LETTER),)))
    return await doctor_log.followers_of_log(log)


@pytest.mark.parametrize(
    ("of", "level", "text"),
    [
        ({}, "ok", "2, the last of them 2 events behind"),
        ({"paused": True}, "warning", "1 paused: see `huahuo projections list`"),
        (
            {"dead": True},
            "warning",
            "1 dead letters: see `huahuo projections list`, and `huahuo projections retry",
        ),
    ],
)
def test_followers_are_told_with_what_to_do(of: dict[str, bool], level: str, text: str) -> None:
    found = asyncio.run(told(**of))
    assert found is not None
    assert (found.level, text in found.text) == (level, True)


@pytest.mark.parametrize(("busy_s", "level"), [(5, "ok"), (900, "warning")])
def test_a_delivery_that_may_never_return_is_a_warning(
    busy_s: float, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = {"huahuo_followers": 1.0, "huahuo_followers_busy_seconds": busy_s}
    monkeypatch.setattr(doctor_log, "metrics_of", lambda *_: metrics)
    found = doctor_log.followers_of_service("http://127.0.0.1:1")
    assert found is not None
    assert found.level == level


def test_a_service_that_does_not_answer_says_nothing() -> None:
    assert doctor_log.followers_of_service("http://127.0.0.1:1") is None
    assert doctor_log.effects_of_service("http://127.0.0.1:1") is None


async def told_after(seconds: float) -> Finding | None:
    log, ambient = await faulty_log(), FakeAmbient()
    assert await doctor_log.effects_of_log(log, ambient) is None
    row = facts.OpenEffect("order", "1", "pack", Raw(b"{}"), since_ms=ambient.now_ms())
    event, put = facts.request(7, row, "2026-11-24T10:31:07.114Z")
    later, later_put = facts.request(8, row, "2026-11-24T10:31:07.114Z")
    await log.append(Append(ts_ms=1, events=(event, later), rows=(put, later_put)))
    ambient.advance(seconds)
    return await doctor_log.effects_of_log(log, ambient)


@pytest.mark.parametrize(
    ("seconds", "level", "text"),
    [(60, "ok", "the oldest is pack of order/1, since 2026-"), (7200, "warning", "it may never return")],
)
async def test_open_effects_are_named_by_the_oldest(seconds: float, level: str, text: str) -> None:
    told = await told_after(seconds)
    assert told is not None
    assert (told.level, text in told.text) == (level, True)


_NOBODY = 65534


@pytest.fixture
def not_root() -> Iterator[None]:
    before = os.geteuid()
    if before == 0:
        os.seteuid(_NOBODY)
    yield
    os.seteuid(before)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def test_a_directory_behind_one_that_is_closed_to_this_user_is_told_with_what_to_do(
    closed: Path, not_root: None
) -> None:
    assert "give it to the service's user" in unusable(closed / "backups" / "daily")
