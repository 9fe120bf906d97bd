"""A clock that is far ahead raises an alarm, once a minute for each node."""

import structlog.testing

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.replicated.peers import AHEAD_MS, Clocks


def test_a_clock_over_a_minute_ahead_is_told_once_a_minute() -> None:
    clocks, mine = Clocks(), FakeAmbient(1)
    with structlog.testing.capture_logs() as told:
        clocks.hear("b", mine.now_ms() + AHEAD_MS, mine)
        clocks.hear("c", mine.now_ms() - 10 * AHEAD_MS, mine)
        assert told == []
        for _ in range(3):
            clocks.hear("b", mine.now_ms() + 300_000, mine)
        assert [(one["event"], one["node"], one["ahead_s"]) for one in told] == [("clocks_apart", "b", 300)]
        mine.advance(60)
        clocks.hear("b", mine.now_ms() + 300_000, mine)
        assert len(told) == 2


def test_what_time_others_have_is_asked_each_time_and_unknown_before_they_can_be_asked() -> None:
    clocks, said = Clocks(), iter([None, 7])
    assert clocks.others_ms() is None
    clocks.ask_others = lambda: next(said)
    assert (clocks.others_ms(), clocks.others_ms()) == (None, 7)
