"""A power cut at every commit of a follower's life: no event is lost, and one batch at most comes again."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence

import pytest

from huahuo import Followed, FollowerRun
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import Append
from tests.support.worlds.followers import Crm, in_crm

COMMITS = 9
BATCH = 2


async def scenario(crm: Crm) -> None:
    """Batches, a bad event that becomes a dead letter, a pause, and a retry."""
    await crm.write("order/1", "user/1", "order/2", "order/3")
    await asyncio.sleep(1)
    await crm.write("order/bad", "order/4")
    await asyncio.sleep(20)
    await crm.follower.pause("user/1", paused=True)
    await crm.write("order/5")
    await crm.follower.pause("user/1", paused=False)
    await asyncio.sleep(1)
    crm.behave = crm.outside.take
    await crm.follower.retry("user/1")
    await asyncio.sleep(1)


WRITTEN = [f"order/{name}#1" for name in ("1", "2", "3", "bad", "4", "5")]


async def cut(crm: Crm, commit: int, *, written: bool) -> None:
    """Play the scenario up to this commit of the follower, and pull the plug before or after it."""

    async def behave(events: Sequence[Followed], run: FollowerRun) -> None:
        if any(event.stream == "order/bad" for event in events):
            raise ConnectionError
        await crm.outside.take(events, run)

    crm.behave = behave
    off, first = asyncio.Event(), len(crm.log.appends)

    async def at_commit(append: Append) -> None:
        if len(crm.log.appends) - first == commit + 1:
            if written:
                await crm.log.append_soundly(append)
            off.set()
            await asyncio.Event().wait()

    crm.log.before_append = at_commit
    playing = asyncio.create_task(scenario(crm))
    cutting = asyncio.create_task(off.wait())
    await asyncio.wait({playing, cutting}, return_when=asyncio.FIRST_COMPLETED)
    assert off.is_set(), f"the scenario has {len(crm.log.appends) - first} commits"
    for task in (playing, cutting):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, EventStoreError):
            await task
    await crm.crash()
    crm.behave = crm.outside.take
    there = {event.stream for event in await crm.log.read("log", 0, events_max=100)}
    await crm.write(*(name.partition("#")[0] for name in WRITTEN if name.partition("#")[0] not in there))
    await crm.follower.pause("user/1", paused=False)
    await crm.idle()
    await crm.follower.retry("user/1")
    await crm.idle()


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("commit", range(COMMITS))
def test_after_a_power_cut_at_this_commit_every_event_arrives(commit: int, written: bool) -> None:
    async def test(crm: Crm) -> None:
        await cut(crm, commit, written=written)
        came = Counter(crm.outside.wrote)
        assert set(came) == set(WRITTEN)
        assert sum(came.values()) - len(came) <= BATCH
        assert crm.follower.dead == {}
        assert crm.follower.state == "up to date"

    in_crm(test, batch=BATCH, retries=1)


OWN_COMMITS = 5


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("commit", range(OWN_COMMITS))
def test_with_a_cursor_of_its_own_every_event_but_retried_ones_arrives_once(
    commit: int, written: bool
) -> None:
    async def test(crm: Crm) -> None:
        await cut(crm, commit, written=written)
        came = Counter(crm.outside.wrote)
        retried = came.pop("order/bad#1")
        assert came == {name: 1 for name in WRITTEN if name != "order/bad#1"}
        assert 1 <= retried <= 2

    in_crm(test, batch=BATCH, retries=1, own_cursor=True)
