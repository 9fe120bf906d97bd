"""`huahuo doctor` says how far behind followers are, and warns of what needs somebody."""

import asyncio

import pytest

from huahuo.actors.followers import record
from huahuo.actors.followers.record import DeadLetter
from huahuo.cli import doctor_log
from huahuo.cli.doctor_log import Told
from huahuo.eventstore.model import Append
from tests.support.models.faulty_log import faulty_log, write

LETTER = DeadLetter("order/1", 1, "t", 3, "KeyError", 1)


async def told(*, paused: bool = False, dead: bool = False) -> Told:
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


def test_followers_are_told_with_the_one_that_is_furthest_behind() -> None:
    assert asyncio.run(told()) == ("ok", "2, the last of them 2 events behind")


def test_a_paused_one_is_a_warning() -> None:
    found = asyncio.run(told(paused=True))
    assert found is not None
    assert found[0] == "warning"
    assert "1 paused: see `huahuo projections list`" in found[1]


def test_dead_letters_are_a_warning_that_says_what_to_do() -> None:
    found = asyncio.run(told(dead=True))
    assert found is not None
    assert found[0] == "warning"
    assert "1 dead letters" in found[1]
    assert "huahuo projections retry NAME" in found[1]


@pytest.mark.parametrize(("busy_s", "level"), [(5, "ok"), (900, "warning")])
def test_a_delivery_that_may_never_return_is_a_warning(
    busy_s: float, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = {"huahuo_followers": 1.0, "huahuo_followers_busy_seconds": busy_s}
    monkeypatch.setattr(doctor_log, "metrics_of", lambda *_: metrics)
    found = doctor_log.followers_of_service("http://127.0.0.1:1")
    assert found is not None
    assert found[0] == level


def test_a_service_that_does_not_answer_says_nothing() -> None:
    assert doctor_log.followers_of_service("http://127.0.0.1:1") is None
