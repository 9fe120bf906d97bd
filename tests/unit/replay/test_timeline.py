"""State, log, blame and when over a recorded story."""

import pytest

from huahuo.mailcheck.plugin.past import sealed_in, subject_of
from huahuo.replay.history.conditions import parse, parse_path
from huahuo.replay.history.history import (
    AtHead,
    AtPosition,
    AtSeq,
    AtTime,
    ListHistory,
    event_of,
    position_at_time,
    position_of,
    seq_at,
)
from huahuo.replay.history.subject import RecentSubject
from huahuo.replay.history.timeline import Step, Timeline, blame, first_true
from tests.support.worlds.replaying import deleted, tell

GOOD, BROKEN = "mailbox/1", "mailbox/2"


async def line(history: ListHistory, entity: str) -> Timeline:
    subject = await subject_of(history, entity)
    assert subject is not None
    return Timeline(history, subject)


async def walked(timeline: Timeline, *, every: bool = False) -> list[Step]:
    await timeline.seek(0)
    return [step async for step in timeline.walk(timeline.history.position, every=every)]


async def test_a_walk_tells_only_of_the_entity_and_what_each_event_changed() -> None:
    timeline = await line(tell().history, BROKEN)
    steps, every, state = (await walked(timeline), await walked(timeline, every=True), timeline.show())
    assert {step.event.entity for step in steps} == {BROKEN}
    assert len(every) > len(steps)
    changes = [(c.path, c.after) for step in steps for c in step.changes]
    assert (("status",), "error") in changes
    assert state["status"] == "error"


async def test_blame_names_the_event_that_last_changed_a_field() -> None:
    history = tell().history
    timeline = await line(history, BROKEN)
    status = await blame(timeline, parse_path("status"), history.position)
    assert status is not None
    before = await blame(timeline, parse_path("status"), status.event.position - 1)
    nothing = await blame(timeline, parse_path("mail_count.nothing"), history.position)
    assert status is not None
    assert before is not None
    assert [c.after for c in status.changes if c.path == ("status",)] == ["error"]
    assert [c.after for c in before.changes if c.path == ("status",)] == ["processing"]
    assert nothing is not None, "the row came, and with it all of its fields"
    assert nothing.event.type == "email_added"


async def test_when_finds_the_first_moment_and_not_a_later_one() -> None:
    history = tell().history
    timeline = await line(history, BROKEN)
    found = await first_true(timeline, parse('status == "error" and progress > 50'), 0, history.position)
    assert found is not None
    assert found.event is not None
    assert (found.event.type, found.state["status"]) == ("email_status_update", "error")
    earlier = await first_true(timeline, parse("progress >= 60"), 0, history.position)
    assert earlier is not None
    assert earlier.state["progress"] == 60
    assert await first_true(timeline, parse("progress > 100"), 0, history.position) is None
    again = await first_true(timeline, parse("progress >= 60"), earlier.position, history.position)
    assert again is not None
    assert (again.position, again.event) == (earlier.position, None)


async def test_a_condition_that_stays_true_is_found_by_bisection_at_the_same_place() -> None:
    story = tell()
    deleted(story, 1)
    history = story.history
    timeline = await line(history, GOOD)
    found = await first_true(timeline, parse("deleted"), 0, history.position)
    assert found is not None
    assert found.event is not None
    assert found.event.type == "mailbox_deleted"
    told = await first_true(timeline, parse("mail_count >= 2"), 0, story.history.position - 3, monotone=True)
    walked_to = await first_true(timeline, parse("mail_count >= 2"), 0, history.position)
    assert told is not None
    assert walked_to is not None
    assert told.position == walked_to.position


async def test_moments_are_places_in_the_log() -> None:
    history = tell().history
    timeline = await line(history, GOOD)
    own = [e for e in history.events if e.stream == GOOD]
    assert await timeline.place(AtSeq(2)) == own[1].position
    assert await timeline.place(AtPosition(3)) == 3
    assert await timeline.place(AtHead()) == history.position
    assert await timeline.place(AtTime(history.events[4].ts_ms)) >= 5
    assert await position_at_time(history, history.events[0].ts_ms - 1) == 0
    for event in history.events:
        assert await position_of(history, event.stream, event.seq) == event.position
        assert await seq_at(history, event.stream, event.position) == event.seq
        assert await event_of(history, event.stream, event.seq) == event
    assert await seq_at(history, GOOD, own[0].position - 1) == 0


async def test_a_stream_without_a_fold_shows_its_newest_events_and_reads_no_more_than_those() -> None:
    history = tell().history
    timeline = Timeline(history, RecentSubject("log"))
    state = await timeline.seek(history.position)
    assert state["count"] == history.position
    assert len(state["recent"]) == min(50, history.position)
    assert timeline.used[0].applied <= 50
    earlier = await timeline.seek(7)
    assert (earlier["count"], len(earlier["recent"])) == (7, 7)


async def test_a_mailbox_that_never_was_is_not_found() -> None:
    with pytest.raises(LookupError):
        await subject_of(tell().history, "mailbox/99")
    assert await subject_of(tell().history, "group/ops") is None


def test_only_the_names_of_sealed_secrets_are_known() -> None:
    sealed = [sealed_in(event) for event in tell().history.events]
    assert {names for names in sealed if names} == {("password",)}
