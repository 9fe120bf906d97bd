"""The contract of retention: which events leave by themselves, which stay, and that the log remains whole."""

from pathlib import Path

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.care.pruning import (
    BATCH_EVENTS,
    EVENT_BYTES,
    CompactionPolicy,
    Facts,
    Retention,
    RetentionRule,
    compact,
)
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.core.reader import AUDIT_STREAM, is_receipt, read_receipt
from huahuo.eventstore.model import Append
from tests.support.worlds.logs import ENGINES, Engine, event, make_engine, opened

DAY_MS = 86_400_000
OLD, NOW = 10 * DAY_MS, 20 * DAY_MS
FACTS = Facts(
    is_free=lambda stream: stream.startswith("group/"),
    prunable=frozenset({"progress"}),
    series=lambda _event: "",
)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return make_engine(request.param, tmp_path)


def retention(log: StoreLog, *rules: RetentionRule) -> Retention:
    return Retention(log, rules, FACTS, FakeAmbient(now_ms=NOW), "service")


def week(streams: str) -> RetentionRule:
    return RetentionRule(streams=streams, older_than_ms=7 * DAY_MS)


async def all_steps(one: Retention) -> None:
    while await one.step():
        pass


async def put(log: StoreLog, stream: str, count: int, ts_ms: int, **fields: str) -> None:
    events = tuple(event(stream, b'{"n":%d}' % n, **fields) for n in range(count))
    await log.append(Append(ts_ms=ts_ms, events=events))


async def seqs(log: StoreLog, stream: str) -> list[int]:
    return [one.seq for one in await log.read(stream, 0, events_max=10_000)]


async def test_of_a_stream_without_an_entity_everything_old_goes_but_what_is_young_stays(
    engine: Engine,
) -> None:
    async with opened(engine) as log:
        await put(log, "group/ops", 5, OLD)
        await put(log, "group/ops", 2, NOW)
        await all_steps(retention(log, week("group/*")))
        assert await seqs(log, "group/ops") == [5, 6, 7]  # the last old one goes when another one is old
        assert (log.head("group/ops").first, log.head("group/ops").seq) == (5, 7)


@pytest.mark.parametrize("rule", [week("group/*"), RetentionRule(streams="group/*", bytes_max=200)])
async def test_what_an_entity_wrote_on_its_own_stream_stays_though_the_application_lacks_it_now(
    engine: Engine, rule: RetentionRule
) -> None:
    async with opened(engine) as log:
        await put(log, "group/1", 3, OLD, entity="group/1")  # of a kind that was removed, so nobody folds it
        await put(log, "group/1", 3, OLD, entity="other/1")
        await all_steps(retention(log, rule))
        assert await seqs(log, "group/1") == [1, 2, 3, 6]


async def test_a_stream_has_its_bound_however_much_of_it_an_entity_wrote_that_is_gone(engine: Engine) -> None:
    async with opened(engine) as log:
        await put(log, "group/1", 2 * BATCH_EVENTS + 1, OLD, entity="group/1")
        await put(log, "group/1", 5, OLD, entity="other/1")
        one = retention(log, RetentionRule(streams="group/*", bytes_max=200))
        await all_steps(one)
        kept = 2 * BATCH_EVENTS + 1
        assert await seqs(log, "group/1") == [*range(1, kept + 1), kept + 5]
        await put(log, "group/1", 3, OLD, entity="other/1")
        await all_steps(one)
        assert await seqs(log, "group/1") == [*range(1, kept + 1), kept + 8]


async def test_of_an_entity_only_superseded_progress_goes_so_its_state_stays(engine: Engine) -> None:
    async with opened(engine) as log:
        await put(log, "order/1", 2, OLD, type="placed")
        await put(log, "order/1", 3, OLD, type="progress", entity="order/1")
        await put(log, "order/1", 1, OLD, type="progress", entity="order/2")
        await put(log, "order/1", 1, NOW, type="paid")
        await all_steps(retention(log, week("order/*")))
        assert await seqs(log, "order/1") == [1, 2, 5, 6, 7]


async def test_only_streams_that_a_rule_matches_are_touched_and_the_first_rule_counts(engine: Engine) -> None:
    async with opened(engine) as log:
        for stream in ("group/kept", "group/ops", "elsewhere"):
            await put(log, stream, 3, OLD)
        never = RetentionRule(streams="group/kept")
        await all_steps(retention(log, never, week("group/*")))
        assert [len(await seqs(log, one)) for one in ("group/kept", "group/ops", "elsewhere")] == [3, 1, 3]


async def test_a_stream_beyond_its_bytes_loses_its_oldest_events(engine: Engine) -> None:
    async with opened(engine) as log:
        await put(log, "group/ops", 100, NOW)
        room = RetentionRule(streams="group/*", bytes_max=10 * (EVENT_BYTES + 8))
        one = retention(log, room)
        await all_steps(one)
        assert await seqs(log, "group/ops") == list(range(91, 101))
        await put(log, "group/ops", 5, NOW)
        await all_steps(one)
        assert await seqs(log, "group/ops") == list(range(96, 106))
        assert one.pruned == 95


async def test_of_an_entity_nothing_goes_for_its_size(engine: Engine) -> None:
    async with opened(engine) as log:
        await put(log, "order/1", 10, NOW, type="placed")
        await all_steps(retention(log, RetentionRule(streams="order/*", bytes_max=1)))
        assert len(await seqs(log, "order/1")) == 10


async def test_it_goes_in_small_commits_each_with_a_receipt_of_the_rule(engine: Engine) -> None:
    async with opened(engine) as log:
        await put(log, "group/ops", 2 * BATCH_EVENTS + 100, OLD)
        await all_steps(retention(log, week("group/*")))
        told = [one for one in await log.read(AUDIT_STREAM, 0, events_max=99) if is_receipt(one)]
        sizes = [len(list(read_receipt(one).positions())) for one in told]
        assert sum(sizes) == 2 * BATCH_EVENTS + 99
        assert max(sizes) <= BATCH_EVENTS
        assert all(b'"retention":"group/*"' in one.body for one in told)


async def test_the_log_stays_whole_with_compactions_between_and_after_a_restart(engine: Engine) -> None:
    async with opened(engine) as log:
        one = retention(log, week("group/*"), RetentionRule(streams="chat/*", bytes_max=500))
        for _ in range(4):
            await put(log, "group/ops", 50, OLD)
            await put(log, "user/1", 20, OLD, type="progress", entity="mailbox/1")
            await one.step()
            await compact(
                log, CompactionPolicy(types=FACTS.prunable, before_ms=NOW), FakeAmbient(now_ms=NOW), "root"
            )
            await all_steps(one)
    async with opened(engine) as log:
        await put(log, "group/ops", 1, OLD)
        await all_steps(retention(log, week("group/*"), week("user/*")))
        assert await seqs(log, "group/ops") == [201]
        assert await seqs(log, "user/1") == [80]
        assert await log.check_receipts() == 200 + 79


async def test_two_rules_about_one_stream_never_prune_an_event_twice(engine: Engine) -> None:
    async with opened(engine) as log:
        both = RetentionRule(streams="group/*", older_than_ms=7 * DAY_MS, bytes_max=3 * (EVENT_BYTES + 7))
        one = retention(log, both)
        await put(log, "group/ops", 6, OLD)
        await all_steps(one)
        await put(log, "group/ops", 6, NOW)
        await all_steps(one)
        assert await seqs(log, "group/ops") == [10, 11, 12]
        assert await log.check_receipts() == 9


async def test_after_a_prune_by_others_it_counts_again(engine: Engine) -> None:
    async with opened(engine) as log:
        await put(log, "group/ops", 20, NOW)
        one = retention(log, RetentionRule(streams="group/*", bytes_max=10 * (EVENT_BYTES + 8)))
        await all_steps(one)
        one.begin_anew()
        await all_steps(one)
        assert len(await seqs(log, "group/ops")) == 10
