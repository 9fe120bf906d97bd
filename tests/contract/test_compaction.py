"""The contract of compaction: which events are pruned, which stay, and that the log remains whole."""

import asyncio
import json
from pathlib import Path

import pytest

from huahuo.eventstore.audit.proof import NotProvable, check_against, checkpoint_of, prove
from huahuo.eventstore.care.pruning import CompactionPolicy, compact
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import Damaged, TooLarge
from huahuo.eventstore.limits import PRUNE_EVENTS_MAX
from huahuo.eventstore.model import Append, Joined, Pruning
from huahuo.replay.feed import Feed
from tests.support.worlds.logs import ENGINES, Engine, append, event, make_engine, opened, read_joined
from tests.support.worlds.replicas import cluster

ALL = CompactionPolicy(types=frozenset({"check_progress"}), before_ms=1 << 60)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return make_engine(request.param, tmp_path)


def stands(log: StoreLog, *streams: str) -> list[tuple[int, int]]:
    """The oldest and the newest seq of each stream."""
    return [(log.head(stream).first, log.head(stream).seq) for stream in streams]


async def fill(log: StoreLog) -> None:
    """user/1: progress 1 to 4 of mailbox/1, a fact, progress 6 of mailbox/2; user/2: progress 1 to 3."""
    for n in range(4):
        await log.append(append(event("user/1", b'{"n":%d}' % n, type="check_progress", entity="mailbox/1")))
    await log.append(append(event("user/1", type="email_added", entity="mailbox/2")))
    await log.append(append(event("user/1", type="check_progress", entity="mailbox/2")))
    for _ in range(3):
        await log.append(append(event("user/2", type="check_progress", entity="mailbox/3")))


async def test_superseded_progress_goes_and_everything_else_stays(engine: Engine) -> None:
    async with opened(engine) as log:
        await fill(log)
        assert await compact(log, ALL, engine.ambient, "cli/root") == 5
        assert [e.seq for e in await log.read("user/1", 0, events_max=99)] == [4, 5, 6]
        assert [e.seq for e in await log.read("user/2", 0, events_max=99)] == [3]


async def test_the_last_ones_and_the_young_ones_stay(engine: Engine) -> None:
    async with opened(engine) as log:
        await fill(log)
        assert (
            await compact(
                log, CompactionPolicy(types=ALL.types, before_ms=ALL.before_ms, keep=3), engine.ambient, ""
            )
            == 1
        )
        assert await compact(log, CompactionPolicy(types=ALL.types, before_ms=0), engine.ambient, "") == 0
    with pytest.raises(ValueError, match="last event"):
        CompactionPolicy(types=ALL.types, before_ms=0, keep=0)


async def test_the_log_stays_whole_through_compactions_and_restarts(engine: Engine) -> None:
    async with opened(engine) as log:
        await fill(log)
        before = await checkpoint_of(log)
        await compact(log, ALL, engine.ambient, "")
        await fill(log)
        await compact(log, ALL, engine.ambient, "")
        assert await log.verify() == log.position
        assert await log.check_receipts() == 13
        assert await compact(log, ALL, engine.ambient, "") == 0
        here = log.position, *stands(log, "user/1", "user/2")
    async with opened(engine) as log:
        assert (log.position, *stands(log, "user/1", "user/2")) == here
        assert await log.verify() == log.position
        await check_against(log, before)


async def test_a_reader_is_told_of_what_was_skipped(engine: Engine) -> None:
    async with opened(engine) as log:
        await fill(log)
        await compact(log, ALL, engine.ambient, "")
        feed = Feed(log)
        skipped = await feed.fetch("user/1", 0, events_max=99, bytes_max=1 << 20)
        assert (skipped.events, skipped.skipped_to) == ((), 3)
        run = await feed.fetch("log", 0, events_max=99, bytes_max=1 << 20)
        assert run.skipped_to == 3
        feed.close()


async def test_joined_bodies_end_before_a_hole_and_begin_behind_it(engine: Engine) -> None:
    async with opened(engine) as log:
        await log.append(append(*(event("a", b"%d" % n) for n in range(1, 8))))
        await log.append(Append(ts_ms=0, prune=Pruning((3, 4), {})))
        assert await read_joined(log, "a", 0, events_max=9) == Joined(1, 2, b"1,2")
        assert await read_joined(log, "a", 2, events_max=9) == Joined(5, 3, b"5,6,7")
        assert await read_joined(log, "a", 0, events_max=2) == Joined(1, 2, b"1,2")


async def test_the_receipt_says_what_went_and_by_which_rule(engine: Engine) -> None:
    async with opened(engine) as log:
        await fill(log)
        await compact(log, ALL, engine.ambient, "cli/root")
        [receipt] = await log.read("audit", 0, events_max=9)
        body = json.loads(receipt.body)
        assert (receipt.type, receipt.principal) == ("compacted", "cli/root")
        assert body["pruned"] == 5
        assert body["ranges"] == [[1, 3], [7, 2]]
        assert body["policy"] == {"types": ["check_progress"], "before_ms": 1 << 60, "keep": 1}


async def test_a_pruning_without_a_receipt_is_found(engine: Engine) -> None:
    async with opened(engine) as log:
        await fill(log)
        await log.append(Append(ts_ms=0, prune=Pruning((2,), {})))
        with pytest.raises(Damaged, match="no receipt") as caught:
            await log.verify()
        assert caught.value.position == 2


async def test_an_event_is_proved_before_it_is_pruned_only(engine: Engine) -> None:
    async with opened(engine) as log:
        await fill(log)
        assert (await prove(log, 1, log.position))["index"] == 0
        await compact(log, ALL, engine.ambient, "")
        with pytest.raises(NotProvable, match="pruned"):
            await prove(log, 1, log.position)
        with pytest.raises(NotProvable, match="no event"):
            await prove(log, log.position + 1, log.position)


async def test_too_many_at_once_are_refused(engine: Engine) -> None:
    async with opened(engine) as log:
        with pytest.raises(TooLarge):
            await log.append(Append(ts_ms=0, prune=Pruning(tuple(range(PRUNE_EVENTS_MAX + 1)), {})))


async def test_the_link_of_a_pruned_event_is_not_told_and_that_of_a_kept_one_is(engine: Engine) -> None:
    async with opened(engine) as log:
        await fill(log)
        kept = (await log.read("user/1", 3, events_max=1))[0].chain
        await compact(log, ALL, engine.ambient, "")
        assert await log.links([("user/1", 3), ("user/1", 4)]) == [None, kept]


async def test_two_nodes_that_compact_at_once_prune_each_event_once() -> None:
    async with cluster("ab") as made:
        one, other = made.nodes
        await fill(one.log)
        await made.caught_up()
        counts = await asyncio.gather(*(compact(node.log, ALL, node.ambient, "") for node in made.nodes))
        assert sum(counts) == 5
        await made.caught_up()
        assert one.tables() == other.tables()
        assert await other.log.check_receipts() == 5
