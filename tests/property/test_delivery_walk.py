"""Walks through the real `Delivery` and its table in parallel: both agree on each step, or both refuse it."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.session.delivery import Delivery
from huahuo.transport.session.delivery_states import (
    START,
    TABLE,
    DeliveryState,
    IllegalStepError,
    Step,
    Subscription,
)
from tests.support.drivers.session import ModelLog, Run

STREAM: Final = "user/42"
CAUSE: Final = ("user/42", "c-1")
WINDOW: Final = 3
RUN_EVENTS_MAX: Final = 2
QUEUED: Final = {DeliveryState.READY, DeliveryState.PARKED, DeliveryState.FAILED}


class Walk:
    """One subscription, and what the table says of it. Operations of `OPERATIONS` are legal or not."""

    def __init__(self) -> None:
        self.log = ModelLog()
        self.walked: set[tuple[DeliveryState, Step]] = set()
        self._connect()

    def _connect(self) -> None:
        frames = FrameCache(bytes_max=1 << 20, frame_bytes_max=1 << 18)
        self.delivery = Delivery(self.log, frames, batched=True, window=WINDOW, past_max=4)
        self.awaited = 0
        self.sub: Subscription
        self._add(waiting=False)

    def _add(self, *, waiting: bool) -> None:
        self.sub = self.delivery.add(STREAM, self.head, waiting=waiting)
        self._follow(START, [Step.SNAPSHOT_NEEDED] if waiting else [])

    @property
    def head(self) -> int:
        return self.log.head(STREAM).seq

    @property
    def subscribed(self) -> bool:
        return STREAM in self.delivery.subs

    @property
    def place(self) -> str:
        """What decides which steps may follow."""
        behind = min(self.head - self.sub.flow.sent, 2)
        credit = self.delivery.window.credit
        coming = [event.command_id for event in self.log.run(STREAM, self.sub.flow.sent, 1).events]
        return str((self.sub.state, self.awaited > 0, behind, credit, coming))

    # What may happen

    def add(self) -> None:
        self._replace(waiting=False)

    def add_waiting(self) -> None:
        self._replace(waiting=True)

    def settle(self) -> None:
        self._expect([self._beside_head()], lambda: self.delivery.settle(self.sub))

    def part_sent(self) -> None:
        self._expect([Step.PART_SENT], lambda: self.delivery.part_sent(self.sub))

    def snapshot(self) -> None:
        step = Step.AT_HEAD
        self._expect([step], lambda: self.delivery.place(self.sub, self.head))

    def old_snapshot(self) -> None:
        seq = max(0, self.head - 1)
        step = Step.BEHIND if self.head else Step.AT_HEAD
        self._expect([step], lambda: self.delivery.place(self.sub, seq))

    def commit(self) -> None:
        self.log.append(STREAM)
        self._wake()

    def commit_of_command(self) -> None:
        self.log.append(STREAM, principal=CAUSE[0], command_id=CAUSE[1])
        self._wake()

    def commit_by_fan_out(self) -> None:
        first = self.head + 1
        self.log.append(STREAM)
        live = self.subscribed and self.sub.state is DeliveryState.LIVE
        taken = live and not self.awaited and self.delivery.window.credit > 0
        assert self.delivery.take(STREAM, first, 1, 0.0) == taken
        if not taken:
            self._wake()

    def signal(self) -> None:
        self._wake()

    def turn(self) -> None:
        due = self.sub.state is DeliveryState.READY and self.delivery.window.credit > 0
        self._expect([Step.TURN_CAME] if due else [], lambda: self._gives(self.delivery.next_read, due))

    def park(self) -> None:
        self._expect([Step.NOT_IN_MEMORY], lambda: self.delivery.park(self.sub))

    def fetch(self) -> None:
        due = self.sub.state is DeliveryState.PARKED
        self._expect([Step.FETCH_BEGAN] if due else [], lambda: self._gives(self.delivery.next_fetch, due))

    def fetch_failed(self) -> None:
        gone = self.sub.state is DeliveryState.GONE
        self._expect([] if gone else [Step.FETCH_FAILED], lambda: self.delivery.fetch_failed(self.sub))

    def retry(self) -> None:
        due = self.sub.state is DeliveryState.FAILED
        self._expect([Step.RETRIED] if due else [], self.delivery.retry)
        self._expect([], self.delivery.retry)  # nothing is left to retry

    def events(self) -> None:
        run = self.log.run(STREAM, self.sub.flow.sent, RUN_EVENTS_MAX)
        sent, step = self.sub.flow.sent, None
        for event in run.events[: self.delivery.window.credit]:
            if self.awaited and (event.principal, event.command_id) == CAUSE:
                step = Step.REPLY_AWAITED
                break
            sent += 1
        self._take(run, step or self._beside_head(sent), sent)

    def page(self) -> None:
        run = self.log.page(STREAM, self.sub.flow.sent, RUN_EVENTS_MAX)
        count = run.joined.count if run.joined is not None else 0
        fits = not self.awaited and count <= self.delivery.window.credit
        sent = self.sub.flow.sent + (count if fits else 0)
        self._take(run, self._beside_head(sent), sent)

    def ask(self) -> None:
        self.awaited += 1
        self._expect([], lambda: self.delivery.expect(CAUSE))

    def answer(self) -> None:
        if self.awaited:
            self.awaited -= 1
            due = self.sub.state is DeliveryState.HELD and not self.awaited
            self._expect([Step.REPLIED] if due else [], lambda: self.delivery.answered(CAUSE))

    def ack(self) -> None:
        self._expect([], lambda: self.delivery.ack(STREAM, self.sub.flow.sent, 0.0))

    def drop(self) -> None:
        self._expect([Step.ENDED] if self.subscribed else [], lambda: self.delivery.drop(STREAM))

    def end(self) -> None:
        self._expect([Step.ENDED] if self.subscribed else [], self.delivery.end)

    def go_on(self) -> None:
        """What comes next when all goes well."""
        match self.sub.state:
            case DeliveryState.NEW:
                self.settle()
            case DeliveryState.SNAPSHOT:
                self.snapshot()
            case DeliveryState.TURN:
                self.events()
            case DeliveryState.FETCHING:
                self.page()
            case DeliveryState.GONE:
                self.add()

    def go_wrong(self) -> None:
        """As `go_on`, the long way."""
        match self.sub.state:
            case DeliveryState.SNAPSHOT:
                self.old_snapshot()
            case DeliveryState.TURN:
                self.park()
            case DeliveryState.FETCHING:
                self.fetch_failed()
            case DeliveryState.GONE:
                self.add_waiting()

    # How it is compared

    def _replace(self, *, waiting: bool) -> None:
        older = self.sub
        before, was = older.state, self.subscribed
        self._add(waiting=waiting)
        if was:
            self.walked.add((before, Step.ENDED))
        assert older.state is DeliveryState.GONE

    def _wake(self) -> None:
        self._expect([Step.HEAD_MOVED] if self.subscribed else [], lambda: self.delivery.wake(STREAM))

    def _take(self, run: Run, step: Step, sent: int) -> None:
        state = self.sub.state
        if state is DeliveryState.GONE:
            self._expect([], lambda: self.delivery.took(self.sub, run, 0.0))
            return
        steps = [step] if state is DeliveryState.TURN else [Step.PAGE_CAME, step]
        sub = self.sub
        self._expect(steps, lambda: self.delivery.took(sub, run, 0.0))
        if self.sub is sub:
            assert sub.flow.sent == sent

    def _beside_head(self, sent: int | None = None) -> Step:
        return Step.BEHIND if self.head > (self.sub.flow.sent if sent is None else sent) else Step.AT_HEAD

    def _gives(self, ask: Callable[[], Subscription | None], due: bool) -> None:
        assert ask() is (self.sub if due else None)

    def _expect(self, steps: Sequence[Step], act: Callable[[], object]) -> None:
        """`act` makes the subscription take `steps`. If the first one is illegal, the connection ends."""
        before = self.sub.state
        if steps and (before, steps[0]) not in TABLE:
            with pytest.raises(IllegalStepError) as caught:
                act()
            assert (caught.value.state, caught.value.step) == (before, steps[0])
            assert self.sub.state is before
            self.delivery.end()
            assert not self.delivery.unfinished
            self._connect()
            return
        act()
        self._follow(before, steps)

    def _follow(self, state: DeliveryState, steps: Sequence[Step]) -> None:
        for step in steps:
            self.walked.add((state, step))
            state = TABLE[state, step]
        sub, delivery = self.sub, self.delivery
        assert sub.state is state
        assert delivery.backlog == (state is DeliveryState.READY)
        assert delivery.parked == ([sub] if state is DeliveryState.PARKED else [])
        assert delivery.unfinished == (state in QUEUED)
        assert (sub.held_for is not None) == (state is DeliveryState.HELD)
        assert self.subscribed == (state is not DeliveryState.GONE)
        if state is DeliveryState.LIVE:
            assert sub.told_live


type Operation = Callable[[Walk], None]

OPERATIONS: Final[tuple[Operation, ...]] = (
    Walk.add, Walk.add_waiting, Walk.settle, Walk.part_sent, Walk.snapshot, Walk.old_snapshot, Walk.commit,
    Walk.commit_of_command, Walk.commit_by_fan_out, Walk.signal, Walk.turn, Walk.park, Walk.fetch,
    Walk.fetch_failed, Walk.retry, Walk.events, Walk.page, Walk.ask, Walk.answer, Walk.ack, Walk.drop,
    Walk.end,
)  # fmt: skip


ALL_WELL: Final[tuple[Operation, ...]] = (
    Walk.go_on, Walk.go_wrong, Walk.commit_of_command, Walk.commit_by_fan_out, Walk.turn, Walk.fetch,
    Walk.retry, Walk.ask, Walk.answer, Walk.ack,
)  # fmt: skip
"""Nearly always legal: with `OPERATIONS` alone, most walks would end after two steps."""


def walk(path: Sequence[Operation]) -> Walk:
    walked = Walk()
    for operation in path:
        operation(walked)
    return walked


@given(st.lists(st.sampled_from(ALL_WELL * 9 + OPERATIONS), min_size=20, max_size=80))
def test_the_delivery_and_its_table_agree_about_every_walk(path: list[Operation]) -> None:
    walk(path)


@pytest.mark.slow
def test_the_delivery_takes_every_step_of_the_table_and_no_other() -> None:
    """The shortest way to each place is tried with every operation."""
    ways: dict[str, tuple[Operation, ...]] = {walk(()).place: ()}
    ahead, walked = deque(ways.values()), set[tuple[DeliveryState, Step]]()
    while ahead:
        way = ahead.popleft()
        for operation in OPERATIONS:
            tried = walk((*way, operation))
            walked |= tried.walked
            if tried.place not in ways:
                ways[tried.place] = (*way, operation)
                ahead.append(ways[tried.place])
    assert walked == set(TABLE)
