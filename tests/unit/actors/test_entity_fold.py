"""The state of an application's entity from its events: old versions, unknown types, keyframes."""

from typing import Any

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from huahuo import Entity, Event
from huahuo.actors.domain.fold import EntityFold
from huahuo.actors.domain.structs import Fault
from huahuo.eventstore.model import Append, NewEvent
from huahuo.replay.history.keyframes import load
from tests.support.models.faulty_log import FaultyLog, faulty_log


class Counted(Event, type="counted"):
    by: int


class Counter(Struct, frozen=True):
    total: int = 0


def counters(version: int = 1, factor: int = 1) -> Entity[Counter]:
    counter = Entity("counter", Counter, version=version)
    if factor == 1:

        @counter.evolve
        def counted(state: Counter, event: Counted) -> Counter:
            return replace(state, total=state.total + event.by)
    else:

        @counter.evolve
        def doubled(state: Counter, event: Counted) -> Counter:
            return replace(state, total=state.total + 2 * event.by)

    return counter


async def counted(log: FaultyLog, **fields: object) -> None:
    body = msgspec.json.encode({"type": "counted", "timestamp": "2026-11-24T10:31:07.114Z", **fields})
    await log.append(Append(ts_ms=1, events=(NewEvent("counter/1", "counted", body),)))


async def total(log: FaultyLog, counter: Entity[Counter]) -> int:
    found = (await load(log, "counter/1", EntityFold(counter))).state.state
    assert isinstance(found, Counter)
    return found.total


@pytest.mark.virtual_time
async def test_an_upcast_that_returns_nothing_is_named() -> None:
    def forgetful(fields: dict[str, Any]) -> None:
        fields["by"] = fields["amount"]

    log = await faulty_log()
    await counted(log, amount=1)
    newest = counters(version=2)
    newest.upcast("counted", from_version=1)(forgetful)  # type: ignore[arg-type]
    with pytest.raises(Fault, match="forgetful returns NoneType: return the fields, a dict") as raised:
        await total(log, newest)
    assert str(raised.value).startswith(f"{__file__}:")
