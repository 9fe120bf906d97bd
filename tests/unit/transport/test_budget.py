"""Budgets in bytes: bytes count until they are sent, refusals keep the bounds, and the sums stay exact."""

from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.load.shares import Budget, BudgetLimits, Estimates

LIMITS = BudgetLimits(process=100, user=40, connection=25)


def test_each_bound_refuses_for_itself() -> None:
    budget = Budget(LIMITS)
    first, second = budget.purse("user/1"), budget.purse("user/1")
    assert first.reserve(25, 0)
    assert not first.reserve(1, 0)  # the connection
    assert second.reserve(15, 0)
    assert not second.reserve(1, 0)  # the user
    for user in ("user/2", "user/3"):
        assert budget.purse(user).reserve(25, 0)
    assert not budget.purse("user/4").reserve(11, 7.0)  # the process
    assert (budget.used, budget.refused, budget.short_at_s) == (90, 3, 7.0)


def test_bytes_count_until_they_have_left_the_write_buffer() -> None:
    budget = Budget(LIMITS)
    purse = budget.purse("user/1")
    assert purse.reserve(20, 0)
    purse.correct(20, 24)
    purse.release(24)
    purse.buffer(24, 1)
    assert budget.used == 24
    assert not purse.reserve(2, 1)
    purse.buffer(0, 2)
    assert budget.used == 0
    assert purse.reserve(2, 2)


def test_what_a_closed_connection_held_is_free_whatever_comes_later() -> None:
    budget = Budget(LIMITS)
    purse = budget.purse("user/1")
    assert purse.reserve(20, 0)
    purse.buffer(5, 0)
    purse.close()
    purse.release(20)
    purse.buffer(7, 1)
    assert (budget.used, budget.users) == (0, 0)


def test_a_connection_whose_buffer_does_not_shrink_is_stuck() -> None:
    purse = Budget(LIMITS).purse("user/1")
    assert purse.stuck_s(5) == 0
    purse.buffer(20, 5)
    purse.buffer(20, 8)
    assert purse.stuck_s(9) == 4
    purse.buffer(19, 9)
    assert purse.stuck_s(9) == 0


def test_what_is_kept_for_speed_gives_way() -> None:
    budget = Budget(LIMITS)
    assert budget.keep(90)

    def make_room(size: int) -> None:
        budget.drop(size)

    budget.make_room = make_room
    assert budget.purse("user/1").reserve(25, 0)
    assert budget.used == 100


def test_an_estimate_is_the_last_size_of_that_kind() -> None:
    estimates = Estimates()
    unknown = estimates.of("user/1", "list")
    estimates.learn("user/1", "list", 7)
    assert (estimates.of("user/1", "list"), estimates.of("user/2", "list")) == (7, unknown)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["reserve", "correct", "release", "buffer", "close"]),
            st.integers(0, 30),
        )
    )
)
def test_the_budget_is_the_sum_of_what_its_connections_hold(steps: list[tuple[int, str, int]]) -> None:
    budget = Budget(LIMITS)
    purses = [budget.purse(f"user/{number // 2}") for number in range(4)]
    reserved = [0] * 4
    for number, what, size in steps:
        purse = purses[number]
        if what == "reserve" and purse.reserve(size, 0):
            reserved[number] += size
        elif what == "correct":
            purse.correct(reserved[number], size)
            reserved[number] = size
        elif what == "release":
            purse.release(reserved[number])
            reserved[number] = 0
        elif what == "buffer":
            purse.buffer(size, 0)
        elif what == "close":
            purse.close()
        assert budget.used == sum(purse.used for purse in purses)
        assert budget.of("user/0") == purses[0].used + purses[1].used
