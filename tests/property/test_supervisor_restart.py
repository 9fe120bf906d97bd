"""The restart decision: never too soon, never too often, and it forgets in time."""

from hypothesis import given
from hypothesis import strategies as st

from huahuo.actors.actor.restart import GiveUp, Restart, RestartAfter, after_failure

CHANCES = st.floats(0, 1, exclude_max=True)
GAPS_S = st.lists(st.floats(0, 100), min_size=1, max_size=60)


@st.composite
def policies(draw: st.DrawFn) -> Restart:
    """Any policy that makes sense."""
    backoff_min_s = draw(st.floats(0.001, 10))
    return Restart(
        backoff_min_s=backoff_min_s,
        backoff_max_s=draw(st.floats(backoff_min_s, 1000)),
        jitter=draw(st.floats(0, 2)),
        restarts_max=draw(st.integers(0, 20)),
        window_s=draw(st.floats(0.1, 1000)),
    )


def decisions(
    policy: Restart, gaps_s: list[float], chance: float
) -> list[tuple[float, RestartAfter | GiveUp]]:
    """Failures one after another until the end, each with its time."""
    taken: list[tuple[float, RestartAfter | GiveUp]] = []
    history: tuple[float, ...] = ()
    now_s = 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        decision = after_failure(policy, history, now_s, chance)
        taken.append((now_s, decision))
        history = decision.failures
        if isinstance(decision, GiveUp):
            break
    return taken


@given(policies(), GAPS_S, CHANCES)
def test_every_delay_is_between_the_bounds(policy: Restart, gaps_s: list[float], chance: float) -> None:
    for _, decision in decisions(policy, gaps_s, chance):
        if isinstance(decision, RestartAfter):
            assert policy.backoff_min_s <= decision.delay_s <= policy.backoff_max_s


@given(policies(), GAPS_S, CHANCES)
def test_no_window_holds_more_restarts_than_allowed(
    policy: Restart, gaps_s: list[float], chance: float
) -> None:
    restarts_s = [at for at, it in decisions(policy, gaps_s, chance) if isinstance(it, RestartAfter)]
    for start_s in restarts_s:
        inside = [at_s for at_s in restarts_s if 0 <= at_s - start_s < policy.window_s]
        assert len(inside) <= policy.restarts_max


@given(policies(), GAPS_S, CHANCES)
def test_giving_up_means_that_the_window_was_full(
    policy: Restart, gaps_s: list[float], chance: float
) -> None:
    taken = decisions(policy, gaps_s, chance)
    now_s, last = taken[-1]
    if isinstance(last, GiveUp):
        inside = [at_s for at_s, _ in taken if now_s - at_s < policy.window_s]
        assert len(inside) == policy.restarts_max + 1


@given(policies(), GAPS_S, CHANCES)
def test_the_history_is_bounded(policy: Restart, gaps_s: list[float], chance: float) -> None:
    for _, decision in decisions(policy, gaps_s, chance):
        assert len(decision.failures) <= policy.restarts_max + 1


@given(policies(), CHANCES)
def test_a_quiet_window_is_forgotten_entirely(policy: Restart, chance: float) -> None:
    first = after_failure(policy, (), 0.0, chance)
    later = after_failure(policy, first.failures, policy.window_s, chance)
    assert type(later) is type(first)
    assert len(later.failures) == 1


@given(policies(), st.lists(st.just(0.0), min_size=2, max_size=60))
def test_without_chance_failures_in_a_row_never_wait_shorter(policy: Restart, gaps_s: list[float]) -> None:
    delays_s = [
        decision.delay_s
        for _, decision in decisions(policy, gaps_s, chance=0)
        if isinstance(decision, RestartAfter)
    ]
    assert delays_s == sorted(delays_s)


@given(st.integers(1, 5000))
def test_no_number_of_failures_overflows(count: int) -> None:
    policy = Restart(restarts_max=10_000)
    decision = after_failure(policy, (0.0,) * count, 1.0, 0.5)
    assert isinstance(decision, RestartAfter)
    assert decision.delay_s <= policy.backoff_max_s
