"""`huahuo doctor` names open effects, and warns of one that may never return."""

from msgspec import Raw

from huahuo.actors.effects import facts
from huahuo.cli import doctor_log
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Append
from tests.support.models.faulty_log import faulty_log


async def told_after(seconds: float) -> doctor_log.Told:
    log, ambient = await faulty_log(), FakeAmbient()
    assert await doctor_log.effects_of_log(log, ambient) is None
    row = facts.OpenEffect("order", "1", "pack", Raw(b"{}"), since_ms=ambient.now_ms())
    event, put = facts.request(7, row, "2026-11-24T10:31:07.114Z")
    later, later_put = facts.request(8, row, "2026-11-24T10:31:07.114Z")
    await log.append(Append(ts_ms=1, events=(event, later), rows=(put, later_put)))
    ambient.advance(seconds)
    return await doctor_log.effects_of_log(log, ambient)


async def test_open_effects_of_a_log_are_named_by_the_oldest() -> None:
    told = await told_after(60)
    assert told is not None
    assert told[0] == "ok"
    assert "the oldest is pack of order/1, since 2026-" in told[1]


async def test_one_that_is_open_for_hours_is_a_warning() -> None:
    told = await told_after(7200)
    assert told is not None
    assert told[0] == "warning"
    assert "it may never return" in told[1]


def test_a_service_that_does_not_answer_says_nothing() -> None:
    assert doctor_log.effects_of_service("http://127.0.0.1:1") is None
