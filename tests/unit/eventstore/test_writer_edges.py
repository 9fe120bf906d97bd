"""What the writer of a log does when its store fails in rare ways, and what it does between commits."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.errors import Corrupt, Unavailable
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.model import StoredEvent
from tests.support.models.failing_store import blind, failing
from tests.support.worlds.logs import MASTER_KEY, append, event

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


class Held(InlineExecutor):
    """Runs jobs while `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    async def run[T](self, job: Callable[[], T]) -> T:
        await self.open.wait()
        return await super().run(job)


async def opened(executor: Held | None = None) -> MemoryLog:
    return await MemoryLog.open(
        ModelDisk(), ambient=FakeAmbient(1), master_key=MASTER_KEY, build="b", executor=executor
    )


async def test_care_that_fails_costs_no_append(monkeypatch: pytest.MonkeyPatch) -> None:
    log = await opened()
    tried = 0

    def fail() -> None:
        nonlocal tried
        tried += 1
        raise OSError("no room")

    monkeypatch.setattr(log.store, "care_due", lambda: not tried)
    monkeypatch.setattr(log.store, "care", fail)
    for _ in range(2):
        await log.append(append(event()))
    await asyncio.sleep(1)
    assert (tried, log.position) == (1, 2)
    await log.close()


async def test_what_a_commit_wrote_before_it_met_a_damaged_page_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor = Held()
    log = await opened(executor)
    heard: list[StoredEvent] = []
    log.listen(heard.extend)
    failing(log.store, monkeypatch, Corrupt("a page", "not what was written"), behind=True)
    executor.open.clear()
    both = [log.submit(append(event(body=body))) for body in (b"one", b"two")]
    executor.open.set()
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    assert [one.body for one in heard] == [b"one", b"two"]
    await log.close()


async def test_where_nobody_can_say_what_a_damaged_commit_wrote_all_of_it_is_in_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor = Held()
    log = await opened(executor)
    blind(log.store, monkeypatch, times=2)
    failing(log.store, monkeypatch, Corrupt("a page", "not what was written"))
    executor.open.clear()
    both = [log.submit(append(event())) for _ in range(2)]
    executor.open.set()
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    with pytest.raises(Unavailable, match="OSError"):
        await log.append(append(event()))
    assert (await log.append(append(event()))).position == 1  # type: ignore[union-attr]
    await log.close()


@pytest.mark.parametrize("lost", ["all of it", "its end is another one"])
async def test_a_log_whose_acknowledged_events_are_gone_takes_no_more(
    lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await opened()
    await log.append(append(event()))
    recover = log.store.recover
    change = {"position": 0} if lost == "all of it" else {"chain": bytes(32)}
    monkeypatch.setattr(log.store, "recover", lambda: msgspec.structs.replace(recover(), **change))
    failing(log.store, monkeypatch, OSError("a fault"))
    with pytest.raises(Unavailable):
        await log.append(append(event()))
    with pytest.raises(Unavailable, match="acknowledged events are gone"):
        await log.append(append(event()))
    assert log.position == 1
    await log.close()
