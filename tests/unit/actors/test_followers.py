"""Followers: every event of their kinds, at least once and in order, over failures, pauses and restarts.

An event that a follower cannot deal with becomes a dead letter, until an administrator retries it. Events
of types that a follower does not want cost it nothing, and it passes them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from huahuo import Followed, FollowerRun
from huahuo.actors.domain.plugin import Entities
from huahuo.actors.followers import follower as shell
from huahuo.actors.followers import record
from huahuo.actors.followers.follower import Followers
from huahuo.actors.followers.spec import Spec
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Append, NewEvent, StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.feed import Feed
from tests.support.models.faulty_log import faulty_log, write
from tests.support.worlds.followers import NAME, Crm, fail_for, in_crm, names, wrote
from tests.support.worlds.orders import Engine, in_engine, orders
from tests.support.worlds.scenario import scenario


@scenario(in_crm)
async def test_it_gets_the_events_of_its_kinds_in_order_and_no_others(crm: Crm) -> None:
    await crm.write("order/1", "user/42", "order/2", "order/1")
    await crm.write("group/ops")
    await crm.write("order/3")
    await crm.idle()
    assert crm.outside.wrote == ["order/1#1", "order/2#1", "order/1#2", "order/3#1"]


@scenario(in_crm)
async def test_it_gets_what_was_written_before_it_was_declared(crm: Crm) -> None:
    await crm.write("order/1", "order/2")
    await crm.close()
    await crm.open()
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 2)


@scenario(in_engine)
async def test_one_that_begins_at_the_head_gets_only_what_comes(engine: Engine) -> None:
    await write(engine.log, "order/1", "order/2")
    got: list[str] = []

    def declare(entities: Entities) -> None:
        @entities.following.follower(NAME, kinds=["order"], first="head")
        async def late(events: Sequence[Followed]) -> None:
            got.extend(names(events))

    later = Engine(engine.log, [orders()], declare=declare)
    await later.brought.work()
    await write(engine.log, "order/3")
    await later.brought.idle()
    await later.brought.close()
    assert got == wrote(3)


@scenario(in_crm)
async def test_an_event_is_told_with_its_place_and_its_fields(crm: Crm) -> None:
    told: list[Followed] = []

    async def look(events: Sequence[Followed], run: FollowerRun) -> None:
        told.extend(events)

    crm.behave = look
    said = await crm.engine.send("place_order", item="tea")
    await crm.idle()
    [event] = told
    assert (event.stream, event.seq, event.kind, event.id) == ("order/1", 1, "order", said["order_id"])
    assert (event.type, event.data["item"], event.principal) == ("order_placed", "tea", "user/42")
    assert event.position == 1


@scenario(in_crm, batch=10)
async def test_a_batch_has_at_most_as_many_events_as_were_asked_for(crm: Crm) -> None:
    await crm.write(*["order/1"] * 25)
    await crm.idle()
    assert [len(batch) for batch, _ in crm.calls] == [10, 10, 5]
    assert [run.position for _, run in crm.calls] == [10, 20, 25]


@scenario(in_crm)
async def test_after_a_restart_it_goes_on_behind_the_last_batch(crm: Crm) -> None:
    await crm.write("order/1")
    await crm.idle()
    await crm.crash()
    await crm.write("order/2")
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 2)


@scenario(in_crm)
async def test_a_batch_that_fails_is_repeated_one_by_one_with_back_off(crm: Crm) -> None:
    fails = 3

    async def behave(events: Sequence[Followed], run: FollowerRun) -> None:
        if fails >= len(crm.calls):
            raise ConnectionError
        await crm.outside.take(events, run)

    crm.behave = behave
    began = asyncio.get_running_loop().time()
    await crm.write("order/1", "order/2")
    await crm.idle()
    assert [batch for batch, _ in crm.calls] == [wrote(1, 2), wrote(1), wrote(1), wrote(1), wrote(2)]
    assert [run.attempt for _, run in crm.calls] == [1, 1, 2, 3, 1]
    assert crm.outside.wrote == wrote(1, 2)
    assert 2 < asyncio.get_running_loop().time() - began < 8


@scenario(in_crm)
async def test_a_paused_one_delivers_nothing_until_it_is_resumed_also_over_a_crash(crm: Crm) -> None:
    await crm.follower.pause("user/1", paused=True)
    await crm.write("order/1")
    await asyncio.sleep(60)
    assert (crm.follower.state, crm.follower.lag) == ("paused", 1)
    await crm.crash()
    await asyncio.sleep(60)
    assert crm.calls == []
    await crm.follower.pause("user/1", paused=False)
    await crm.idle()
    assert crm.outside.wrote == wrote(1)
    told = [event["type"] for event in await crm.engine.bodies("audit")]
    assert told == ["follower_paused", "follower_resumed"]


@scenario(in_crm, backoff_s=10.0)
async def test_a_pause_interrupts_the_wait_for_the_next_attempt(crm: Crm) -> None:
    fail_for(crm, "order/1")
    await crm.write("order/1")
    await asyncio.sleep(0.1)
    await crm.follower.pause("user/1", paused=True)
    await asyncio.sleep(10_000)
    assert len(crm.calls) == 1


@scenario(in_crm, batch=1)
async def test_a_stop_lets_the_batch_under_way_come_to_its_end(crm: Crm) -> None:
    async def slow(events: Sequence[Followed], run: FollowerRun) -> None:
        await asyncio.sleep(3)
        await crm.outside.take(events, run)

    crm.behave = slow
    await crm.write("order/1", "order/2")
    await asyncio.sleep(1)
    await crm.close(drain_s=5)
    await crm.open()
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 2)


@scenario(in_crm)
async def test_a_batch_that_a_stop_cut_short_is_delivered_after_the_next_start(crm: Crm) -> None:
    async def hang(events: Sequence[Followed], run: FollowerRun) -> None:
        await asyncio.Event().wait()

    crm.behave = hang
    await crm.write("order/1")
    await asyncio.sleep(1)
    assert crm.follower.busy_s > 0.5
    await crm.close(drain_s=1)
    crm.behave = crm.outside.take
    await crm.open()
    await crm.idle()
    assert crm.outside.wrote == wrote(1)


@scenario(in_crm, retries=0)
async def test_a_cancel_of_its_own_is_a_failure_like_others(crm: Crm) -> None:
    async def cancelled(events: Sequence[Followed], run: FollowerRun) -> None:
        raise asyncio.CancelledError

    crm.behave = cancelled
    await crm.write("order/1")
    await crm.idle()
    assert crm.follower.dead[1].error == "CancelledError"


@scenario(in_crm)
async def test_a_cursor_that_cannot_be_stored_is_stored_later_and_nothing_is_delivered_twice(
    crm: Crm,
) -> None:
    crm.log.lose = ["before", "after", "before"]
    await crm.write("order/1")
    await asyncio.sleep(1)
    await crm.write("order/2")
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 2)
    await crm.crash()
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 2)


@scenario(in_crm)
async def test_a_log_that_cannot_be_read_is_tried_again(crm: Crm) -> None:
    await crm.write("order/1")
    await crm.close()
    await crm.open()  # what is to be delivered is not in memory
    crm.log.read_fault = OSError("a fault of ours")
    await asyncio.sleep(60)
    crm.log.read_fault = None
    await crm.idle()
    assert crm.outside.wrote == wrote(1)


@scenario(in_crm)
async def test_signals_that_were_lost_do_no_harm(crm: Crm) -> None:
    crm.log.deaf = True
    await crm.write("order/1", "user/1")
    crm.log.deaf = False
    await crm.write("user/1")
    await crm.idle()
    assert crm.outside.wrote == wrote(1)


def test_a_cursor_that_passes_others_events_is_stored_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_SAVE_EVERY", 10)

    async def test(crm: Crm) -> None:
        for _ in range(25):
            await crm.write("user/1")
            await asyncio.sleep(0.1)
        kept = await record.read(crm.log, NAME)
        assert kept.cursor == 20
        assert len(crm.log.appends) == 3, "the first one, and two on the way"
        await crm.close()
        await crm.open()
        assert (await record.read(crm.log, NAME)).cursor == 25

    in_crm(test)


@scenario(in_crm, own_cursor=True)
async def test_one_with_a_cursor_of_its_own_is_asked_at_the_start_and_after_failures(crm: Crm) -> None:
    async def behave(events: Sequence[Followed], run: FollowerRun) -> None:
        await crm.outside.take(events, run)
        if len(crm.calls) == 1:
            raise ConnectionError("the transaction was committed all the same")

    crm.behave = behave
    await crm.write("order/1", "order/2")
    await crm.idle()
    await crm.write("order/3")
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 2, 3)
    assert crm.outside.asked == 2
    await crm.crash()
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 2, 3)
    assert crm.outside.asked == 3


@scenario(in_crm, own_cursor=True, retries=1)
async def test_one_with_a_cursor_of_its_own_goes_on_behind_a_dead_letter(crm: Crm) -> None:
    fail_for(crm, "order/2")
    await crm.write("order/1", "order/2", "order/3")
    await crm.idle()
    await crm.crash()
    await crm.write("order/4")
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 3, 4)
    crm.behave = crm.outside.take
    await crm.follower.retry("user/1")
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 3, 4, 2)
    assert crm.outside.cursor >= 4, "the cursor does not go back"


@pytest.mark.parametrize("cursor", [-1, 10**9, "7"])
@scenario(in_crm, own_cursor=True)
async def test_a_cursor_of_its_own_that_cannot_be_right_is_asked_for_again(crm: Crm, *, cursor: Any) -> None:
    await crm.close()
    crm.outside.cursor = cursor
    await crm.open()
    await crm.write("order/1")
    await asyncio.sleep(60)
    assert (crm.calls, crm.follower.state) == ([], "retrying")
    crm.outside.cursor = 0
    await asyncio.sleep(600)
    assert crm.outside.wrote == wrote(1)


@scenario(in_crm, retries=2)
async def test_an_event_that_always_fails_becomes_a_dead_letter_and_the_others_are_delivered(
    crm: Crm,
) -> None:
    fail_for(crm, "order/2")
    await crm.write("order/1", "order/2", "order/3")
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 3)
    [(position, letter)] = crm.follower.dead.items()
    assert (position, letter.stream, letter.attempts, letter.error) == (
        2,
        "order/2",
        3,
        "ConnectionError",
    )
    await crm.crash()
    await crm.idle()
    assert crm.outside.wrote == wrote(1, 3)
    assert list(crm.follower.dead) == [2]


@scenario(in_crm, retries=0)
async def test_a_follower_with_a_dead_letter_is_not_retrying_and_says_what_it_failed_with(crm: Crm) -> None:
    fail_for(crm, "order/2")
    await crm.write("order/1", "order/2")
    await crm.idle()

    def says() -> tuple[str, int, str]:
        standing = crm.follower.standing()
        return standing.state, standing.dead_letters, standing.error

    assert says() == ("up to date", 1, "ConnectionError")
    await crm.follower.retry("user/1")
    await crm.idle()
    assert says() == ("up to date", 1, "ConnectionError")
    await crm.write("order/1")
    await crm.idle()
    assert says() == ("up to date", 1, "ConnectionError")


@scenario(in_crm, retries=0)
async def test_the_text_of_an_exception_is_stored_nowhere(crm: Crm) -> None:
    fail_for(crm, "order/1")
    await crm.write("order/1")
    await crm.idle()
    rows = [value for append in crm.log.appends for value in append.rows]
    assert b"ConnectionError" in repr(rows).encode()
    assert b"secret" not in repr(rows).encode()


@scenario(in_crm, retries=0)
async def test_retry_delivers_the_dead_letters_again_and_forgets_those_that_succeed(crm: Crm) -> None:
    fail_for(crm, "order/1", "order/3")
    await crm.write("order/1", "order/2", "order/3")
    await crm.idle()
    fail_for(crm, "order/3")
    assert await crm.follower.retry("user/1") == 2
    await crm.idle()
    assert crm.outside.wrote == wrote(2, 1)
    assert {at: letter.attempts for at, letter in crm.follower.dead.items()} == {3: 2}
    assert crm.calls[-1][1].again
    events = await crm.engine.bodies("audit")
    assert [(event["type"], event["dead_letters"]) for event in events] == [("follower_retried", 2)]
    assert (await record.read(crm.log, NAME)).dead == crm.follower.dead


@scenario(in_crm, retries=0)
async def test_a_retry_that_a_crash_cut_short_is_done_after_the_start(crm: Crm) -> None:
    fail_for(crm, "order/1", "order/2")
    await crm.write("order/1", "order/2")
    await crm.idle()
    crm.behave = crm.outside.take
    crm.log.before_append = lambda append: asyncio.Event().wait() if not append.events else None
    await crm.follower.retry("user/1")
    await asyncio.sleep(1)
    await crm.crash()
    await crm.idle()
    assert sorted(set(crm.outside.wrote)) == wrote(1, 2)
    assert crm.follower.dead == {}


@scenario(in_crm, retries=0)
async def test_a_dead_letter_whose_event_was_pruned_is_forgotten_at_its_retry(crm: Crm) -> None:
    fail_for(crm, "order/1")
    await crm.write("order/1", "order/1")
    await crm.idle()
    crm.log.compacted = {1}
    await crm.follower.retry("user/1")
    await crm.idle()
    assert list(crm.follower.dead) == [2]


def test_with_too_many_dead_letters_it_waits_and_goes_on_when_they_are_dealt_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record, "DEAD_LETTERS_MAX", 2)

    async def test(crm: Crm) -> None:
        fail_for(crm, "order/1")
        await crm.write(*["order/1"] * 4, "order/2")
        await crm.idle()
        await asyncio.sleep(3_600)
        assert (len(crm.follower.dead), crm.follower.state) == (2, "too many dead letters")
        assert crm.outside.wrote == []
        crm.behave = crm.outside.take
        await crm.follower.retry("user/1")
        await asyncio.sleep(600)
        assert crm.outside.wrote == ["order/1#1", "order/1#2", "order/1#3", "order/1#4", "order/2#1"]
        assert crm.follower.state == "up to date"

    in_crm(test, retries=0)


class Reader:
    """The function of a follower of mails, and its own database, which is a number."""

    def __init__(self) -> None:
        self.got: list[list[str]] = []
        self.read: list[str] = []
        self.position = 0
        self.passed = asyncio.Event()

    async def cursor(self) -> int:
        return self.position

    async def take(self, events: Sequence[Followed], run: FollowerRun) -> None:
        self.got.append([f"{event.type}@{event.position}" for event in events])
        self.position = run.position
        if not events:
            self.passed.set()

    def event(self, event: StoredEvent) -> Followed:
        self.read.append(event.type)
        return Followed(event.position, event.stream, event.seq, event.type, {})


async def write_types(log: Log, *types: str) -> None:
    events = tuple(NewEvent(stream="user/42", type=type_, body=b"{}") for type_ in types)
    await log.append(Append(ts_ms=1, events=events))


def with_reader(test: Callable[[Log, Reader, Followers], Awaitable[None]]) -> None:
    async def run() -> None:
        log, reader = await faulty_log(), Reader()
        spec = Spec(
            name="mails", kinds={"user"}, types={"mail"}, handler=reader.take, wants_run=True,
            cursor=reader.cursor, passing=True,
        )  # fmt: skip
        followers = Followers([spec], log=log, feed=Feed(log), ambient=FakeAmbient(), read=reader.event)
        await followers.start()
        try:
            await test(log, reader, followers)
        finally:
            await followers.close()

    asyncio.run(run())


@scenario(with_reader)
async def test_it_gets_the_events_of_its_types_and_no_others(
    log: Log, reader: Reader, followers: Followers
) -> None:
    await write_types(log, "mail", "progress", "mail")
    await write_types(log, "progress")
    await write_types(log, "progress", "mail")
    await followers.idle()
    assert [one for batch in reader.got for one in batch] == ["mail@1", "mail@3", "mail@6"]


@scenario(with_reader)
async def test_an_event_of_another_type_is_not_even_read(
    log: Log, reader: Reader, followers: Followers
) -> None:
    await write_types(log, "progress", "progress")
    await followers.idle()
    assert (reader.read, reader.got) == ([], [])
    assert followers.by_name["mails"].lag == 0


def test_after_many_of_other_types_it_is_told_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_SAVE_EVERY", 3)

    async def test(log: Log, reader: Reader, followers: Followers) -> None:
        await write_types(log, "mail")
        await followers.idle()
        for _ in range(2):
            await write_types(log, "progress")
        await reader.passed.wait()
        assert (reader.got, reader.position) == ([["mail@1"], []], 3)

    with_reader(test)
