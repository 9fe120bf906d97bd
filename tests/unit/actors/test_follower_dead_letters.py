"""An event that a follower cannot deal with becomes a dead letter, until an administrator retries it."""

import asyncio

import pytest

from huahuo.actors.followers import record
from tests.support.worlds.followers import NAME, Crm, fail_for, in_crm, wrote
from tests.support.worlds.scenario import scenario


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
