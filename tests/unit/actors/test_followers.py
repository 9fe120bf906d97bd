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
