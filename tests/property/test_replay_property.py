"""Whatever happened, looking back shows what was: prefixes, keyframes, forks, and decisions again."""

import asyncio
import sys
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.model import Keyframe, StoredEvent
from huahuo.mailcheck.guide import guide
from huahuo.mailcheck.mailbox.decider import ReportProgress, ReportStatus
from huahuo.mailcheck.mailbox.state import MailboxFold
from huahuo.mailcheck.plugin.past import RosterSubject, own_subject, subject_of
from huahuo.mailcheck.roster.decider import ImportEmails
from huahuo.mailcheck.roster.state import RosterFold
from huahuo.replay.history.conditions import differences, holds, parse
from huahuo.replay.history.detached_history import fork, renumbered
from huahuo.replay.history.history import ListHistory
from huahuo.replay.history.timeline import Timeline, first_true
from huahuo.timetravel.judge import Judge
from tests.support.models.racing import USERS, Racing, steps
from tests.support.proofs import examples

CONDITIONS = ('status == "ok"', "progress >= 50", "mail_count > 0 and progress == 100", "deleted", "check")


def record(steps_: list[tuple[str, int, Any]]) -> ListHistory:
    """The log of these steps, each signed as entities sign."""
    racing = Racing()
    book = racing.book
    signed: list[StoredEvent] = [msgspec.structs.replace(e, principal="user/7") for e in book.events]
    for step in steps_:
        before = len(book.events)
        try:
            racing.step(step)
        except Conflict:
            continue
        who = f"user/{step[1]}" if step[0] == "roster" else "service"
        signed += [msgspec.structs.replace(e, principal=who) for e in book.events[before:]]
    return ListHistory(renumbered(signed), "property")


class Framed(ListHistory):
    """With keyframes after every third event of every stream."""

    def __init__(self, events: list[StoredEvent], log_id: str) -> None:
        super().__init__(events, log_id)
        self._kept: dict[tuple[str, str], list[Keyframe]] = {}
        for stream in (*self.streams("user/"), *self.streams("mailbox/")):
            fold: Any = RosterFold() if stream.startswith("user/") else MailboxFold()
            state = fold.initial(stream)
            for event in (e for e in events if e.stream == stream):
                state = fold.evolve(state, event)
                if event.seq % 3 == 0:
                    frame = Keyframe(stream, fold.name, fold.fingerprint, event.seq, fold.dump(state))
                    self._kept.setdefault((stream, fold.name), []).append(frame)

    async def keyframe(
        self, stream: str, fold: str, fingerprint: str, *, at: int | None = None
    ) -> Keyframe | None:
        kept = [f for f in self._kept.get((stream, fold), ()) if at is None or f.seq <= at]
        return kept[-1] if kept else None


@settings(max_examples=examples(60), deadline=None)
@given(steps)
def test_a_prefix_folds_to_the_live_state_of_that_moment(steps_: list[tuple[str, int, Any]]) -> None:
    history = record(steps_)

    async def main() -> None:
        for user in USERS:
            subject = RosterSubject(user)
            fold, live, timeline = (
                RosterFold(),
                [RosterFold().initial(subject.stream)],
                Timeline(history, subject),
            )
            for event in history.events:
                if event.stream == subject.stream:
                    live[0] = fold.evolve(live[0], event)
                if event.position % 5 == 0:
                    assert await timeline.seek(event.position) == subject.show(live)

    asyncio.run(main())


@settings(max_examples=examples(60), deadline=None)
@given(steps, st.lists(st.integers(0, 200), max_size=20))
def test_a_keyframe_and_the_tail_behind_it_are_the_full_fold(
    steps_: list[tuple[str, int, Any]], places: list[int]
) -> None:
    history = record(steps_)
    framed = Framed(history.events, "framed")

    async def main() -> None:
        for entity in (*history.streams("user/"), *history.streams("mailbox/")):
            subject = await subject_of(history, entity)
            assert subject is not None
            one, other = Timeline(history, subject), Timeline(framed, subject)
            for position in (*places, history.position):
                assert await one.seek(position) == await other.seek(position)

    asyncio.run(main())


@settings(max_examples=examples(60), deadline=None)
@given(steps)
def test_the_changes_of_a_walk_lead_from_each_state_to_the_next(steps_: list[tuple[str, int, Any]]) -> None:
    history = record(steps_)

    async def main() -> None:
        subject = await subject_of(history, "mailbox/1")
        assert subject is not None
        walking, seeking = Timeline(history, subject), Timeline(history, subject)
        before = await seeking.seek(0)
        async for step in walking.walk(history.position):
            after = await seeking.seek(step.event.position)
            assert step.changes == differences(before, after)
            assert walking.show() == after
            before = after

    asyncio.run(main())


@settings(max_examples=examples(60), deadline=None)
@given(steps)
def test_a_fork_without_changes_is_the_original(steps_: list[tuple[str, int, Any]]) -> None:
    history = record(steps_)
    assert fork(history.events, []) == history.events


@settings(max_examples=examples(60), deadline=None)
@given(steps, st.sampled_from(CONDITIONS))
def test_when_is_the_first_moment_of_all(steps_: list[tuple[str, int, Any]], text: str) -> None:
    history, condition = record(steps_), parse(text)

    async def main() -> None:
        subject = await subject_of(history, "mailbox/1")
        assert subject is not None
        timeline = Timeline(history, subject)
        first = None
        for position in range(history.position + 1):
            if holds(condition, await timeline.seek(position)):
                first = position
                break
        found = await first_true(Timeline(history, subject), condition, 0, history.position)
        assert (None if found is None else found.position) == first

    asyncio.run(main())


@settings(max_examples=examples(100), deadline=None)
@given(steps)
def test_what_was_decided_is_decided_again(steps_: list[tuple[str, int, Any]]) -> None:
    history = record(
        [s for s in steps_ if not isinstance(s[2], ReportStatus | ReportProgress | ImportEmails)]
    )
    findings: list[dict[str, Any]] = []
    judge = Judge(guide, guide.domain(sys.path), findings.append, set())
    appends: dict[int, list[StoredEvent]] = {}
    for event in history.events:  # each decision had a second of its own
        appends.setdefault(event.ts_ms, []).append(event)
    for events in appends.values():
        judge.append(events)
    assert [f for f in findings if "shown" not in f] == []
    assert judge.tally["decided"] > 0
    assert judge.tally["underivable"] == 0


def test_own_subjects_are_those_of_the_domain() -> None:
    assert own_subject("system") is None
    assert own_subject("user/7") is not None
