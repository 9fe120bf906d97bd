"""A follower loses no event, whatever fails, and its cursor passes none that is not dealt with."""

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from huahuo.actors.followers.spec import Course
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import StoredEvent
from tests.support.proofs import examples
from tests.support.worlds.followers import Crm, in_crm

BATCH = 4


def event(position: int) -> StoredEvent:
    body = b"x" * (position % 3)
    return StoredEvent(position, "order/1", position, "t", body, 1, 0, "", "", "", 0, "", b"")


moves = st.one_of(
    st.tuples(st.just("commit"), st.lists(st.booleans(), min_size=1, max_size=6)),
    st.tuples(st.just("read"), st.integers(1, 5)),
    st.tuples(st.sampled_from(["deliver", "fail", "put aside", "crash"]), st.none()),
    st.tuples(st.just("go to"), st.integers(0, 40)),
)


@pytest.mark.slow
@given(story=st.lists(moves, max_size=60))
@settings(max_examples=examples(300), deadline=None)
def test_a_cursor_never_passes_an_event_that_is_not_dealt_with(story: list[tuple[str, Any]]) -> None:
    course, log = Course(0, BATCH), list[bool]()
    """`log` says of each position whether it is of the follower's kinds."""
    dealt: set[int] = set()

    def ours(upto: int) -> set[int]:
        return {n for n in range(1, upto + 1) if log[n - 1]}

    for what, how in story:
        batch = course.batch()
        match what:
            case "commit":
                first = len(log) + 1
                log += how
                if not any(how):
                    course.skip(first, len(log))
            case "read" if course.wants_more:
                upto = min(course.seen + how, len(log))
                found = [event(n) for n in sorted(ours(upto)) if n > course.seen and n not in dealt]
                course.take_up(found, upto)
            case "deliver" if batch:
                course.done(batch)
                dealt.update(one.position for one in batch)
            case "fail" if batch:
                assert (course.failed(batch) > 0) == (len(batch) == 1)
                assert len(course.batch()) == 1, "and then it goes alone"
            case "put aside" if len(batch) == 1:
                course.done(batch)
                dealt.add(batch[0].position)
            case "crash":
                course = Course(course.cursor, BATCH)
            case "go to":
                cursor = min(how, len(log))
                course.go_to(cursor)
                dealt |= ours(cursor)
        assert ours(course.cursor) <= dealt
        assert course.cursor <= course.seen <= len(log)
        places = [one.position for one in course.batch()]
        assert places == sorted(set(places))
        assert len(places) <= BATCH
        assert not places or places[0] == course.cursor + 1


steps = st.one_of(
    st.tuples(st.just("write"), st.lists(st.sampled_from(["order/1", "order/2", "user/1"]), min_size=1)),
    st.tuples(st.just("wait"), st.floats(0.001, 5)),
    st.tuples(st.sampled_from(["crash", "restart", "pause", "resume", "retry"]), st.none()),
    st.tuples(st.just("lose"), st.lists(st.sampled_from(["", "before", "after"]), max_size=3)),
)
deeds = st.lists(st.sampled_from(["take", "take", "fail", "fail after", "long"]), min_size=1, max_size=6)


@pytest.mark.slow
@given(story=st.lists(steps, min_size=3, max_size=14), deeds=deeds, own_cursor=st.booleans())
@example(
    story=[("lose", ["after"]), ("pause", None), ("write", ["order/1"])], deeds=["take"], own_cursor=False
)
@example(
    story=[("wait", 1.0), ("lose", ["after"]), ("pause", None), ("write", ["order/1"])],
    deeds=["take"], own_cursor=False,
)  # fmt: skip
@settings(max_examples=examples(60), deadline=None)
def test_every_event_reaches_a_follower_over_crashes_failures_and_pauses(
    story: list[tuple[str, Any]], deeds: list[str], own_cursor: bool
) -> None:
    async def test(crm: Crm) -> None:
        async def behave(events: Any, run: Any) -> None:
            deed = deeds[len(crm.calls) % len(deeds)]
            if deed == "fail":
                raise ConnectionError
            if deed == "long":
                await asyncio.sleep(2)
            await crm.outside.take(events, run)
            if deed == "fail after":
                raise ConnectionError

        crm.behave = behave
        written: list[str] = []
        for what, how in story:
            match what:
                case "write":
                    appended = await crm.write(*how)
                    written += [f"{e.stream}#{e.seq}" for e in appended.events if e.stream != "user/1"]
                case "wait":
                    await asyncio.sleep(how)
                case "crash":
                    await crm.crash()
                case "restart":
                    await crm.close(drain_s=1)
                    await crm.open()
                case "pause" | "resume":
                    with contextlib.suppress(EventStoreError):
                        await crm.follower.pause("user/1", paused=what == "pause")
                case "retry":
                    with contextlib.suppress(EventStoreError):
                        await crm.follower.retry("user/1")
                case "lose":
                    crm.log.lose = how
        crm.log.lose = []
        crm.behave = crm.outside.take
        await crm.follower.pause("user/1", paused=False)
        await crm.idle()
        aside = len(crm.follower.dead)
        await crm.follower.retry("user/1")
        await crm.idle()
        assert crm.follower.dead == {}
        assert set(crm.outside.wrote) == set(written)
        if own_cursor and not aside and "retry" not in {what for what, _ in story}:
            assert crm.outside.wrote == written, "exactly once, and in order"

    in_crm(test, own_cursor=own_cursor, retries=1, batch=3)
