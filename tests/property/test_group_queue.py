"""The queue before the writer: owners take turns, and the items of each keep their order."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from huahuo.eventstore.core.group_queue import ITEM_BYTES, OTHERS_GROUPS, SEVERAL, GroupQueue

EVENTS_MAX = 64
BYTES_MAX = 32 << 10

item = st.tuples(st.sampled_from("abcd"), st.integers(0, 80), st.integers(0, 48 << 10))
steps = st.lists(st.one_of(item, st.just(None)), max_size=80)


@given(steps)
def test_nothing_is_lost_or_doubled_and_each_owner_keeps_its_order(
    steps: list[tuple[str, int, int] | None],
) -> None:
    queue: GroupQueue[tuple[str, int]] = GroupQueue()
    put: dict[str, list[int]] = defaultdict(list)
    taken: dict[str, list[int]] = defaultdict(list)

    def take() -> None:
        for owner, number in queue.take(EVENTS_MAX, BYTES_MAX):
            taken[owner].append(number)

    for number, step in enumerate(steps):
        if step is None:
            take()
        else:
            owner, events, size = step
            queue.put(owner, (owner, number), events, size)
            put[owner].append(number)
    while len(queue):
        take()
    assert taken == put
    assert (queue.bytes, queue.owners) == (0, 0)


@given(steps)
def test_a_group_keeps_both_bounds_or_is_one_item(steps: list[tuple[str, int, int] | None]) -> None:
    queue: GroupQueue[tuple[int, int]] = GroupQueue()
    for step in steps:
        if step is None:
            group = queue.take(EVENTS_MAX, BYTES_MAX)
            if len(group) > 1:
                assert sum(events for events, _ in group) <= EVENTS_MAX
                assert sum(size for _, size in group) <= BYTES_MAX
        else:
            owner, events, size = step
            queue.put(owner, (events, size), events, size)
    while len(queue):
        assert queue.take(EVENTS_MAX, BYTES_MAX), "a group is never empty while something waits"


@given(st.lists(item, min_size=1, max_size=40))
def test_what_fits_into_one_group_leaves_in_the_order_of_arrival(items: list[tuple[str, int, int]]) -> None:
    queue: GroupQueue[int] = GroupQueue()
    for number, (owner, events, size) in enumerate(items):
        queue.put(owner, number, events, size)
    assert queue.take(10**9, 10**9) == list(range(len(items)))


@given(st.lists(st.integers(1, 4096), min_size=1, max_size=300), st.integers(1, 12))
def test_a_backlog_delays_another_owner_by_one_item_of_each_that_waits(sizes: list[int], owners: int) -> None:
    queue: GroupQueue[str] = GroupQueue()
    for size in sizes:
        for owner in range(owners):
            queue.put(f"busy{owner}", "busy", 1, size)
    queue.put("calm", "calm", 1, 100)
    before = 0
    while "calm" not in (group := queue.take(EVENTS_MAX, BYTES_MAX)):
        before += len(group)
    assert before <= owners


@given(st.integers(2, 60), st.integers(1, 80), st.integers(0, 100))
def test_nobody_leaves_twice_before_all_that_wait_have_left_once(owners: int, events: int, late: int) -> None:
    queue: GroupQueue[int] = GroupQueue()
    had = dict.fromkeys(range(owners), 0)
    for _ in range(5):
        for owner in had:
            queue.put(f"{owner}", owner, events, 0)
    left, late_at = 0, -1
    while len(queue):
        if left >= late and late_at < 0:
            queue.put("late", owners, events, 0)
            late_at = left
        group = queue.take(EVENTS_MAX, BYTES_MAX)
        for owner in group:
            if owner == owners:
                assert left - late_at <= 2 * owners, "a latecomer waits for at most two rounds"
            else:
                had[owner] += 1
                assert had[owner] <= min(had.values()) + 1
        left += len(group)


def busy_and_calm(lists: int) -> GroupQueue[tuple[str, int]]:
    """A queue with a user's lists of many events, and behind them another's single event."""
    queue: GroupQueue[tuple[str, int]] = GroupQueue()
    for _ in range(lists):
        queue.put("busy", ("busy", 64), 64, 64 * 256)
    queue.put("calm", ("calm", 1), 1, 100)
    return queue


def test_a_small_item_leaves_first_in_a_group_of_a_quarter_where_another_has_large_ones() -> None:
    for lists in (9, 31, 1_000):
        group = busy_and_calm(lists).take(2_048, 1 << 20)
        assert group[0] == ("calm", 1)
        assert sum(events for _, events in group) <= 2_048 // SEVERAL


def groups_of_one(queue: GroupQueue[int], count: int) -> list[int]:
    """How many events each of the next groups has, while one user's lists wait and nobody else's."""
    found = []
    for _ in range(count):
        while len(queue) < 100:
            queue.put("busy", 64, 64, 64 * 256)
        found.append(sum(queue.take(2_048, 1 << 20)))
    return found


def test_a_group_behind_which_another_may_come_is_a_quarter_until_nobody_came_for_a_while() -> None:
    queue: GroupQueue[int] = GroupQueue()
    assert groups_of_one(queue, 3) == [2_048] * 3, "alone"
    queue.put("calm", 1, 1, 100)
    assert 1 in queue.take(2_048, 1 << 20)
    while_others_write = groups_of_one(queue, OTHERS_GROUPS)
    assert max(while_others_write) <= 2_048 // SEVERAL
    assert groups_of_one(queue, 2) == [2_048] * 2, "alone again"


def test_what_the_service_writes_by_itself_makes_no_groups_small() -> None:
    queue: GroupQueue[int] = GroupQueue()
    for _ in range(3):
        queue.put("", 0, 0, 100)
        assert 0 in queue.take(2_048, 1 << 20)
        assert groups_of_one(queue, 1) == [2_048]


def test_who_comes_to_a_backlog_of_one_owner_leaves_in_the_next_group() -> None:
    queue: GroupQueue[tuple[str, int]] = GroupQueue()
    for number in range(6_000):
        queue.put("one", ("one", number), 1, 100)
        if number == 2_500:
            queue.put("other", ("other", 0), 1, 100)
    first = queue.take(2_048, 1 << 20)
    assert first[1] == ("other", 0)
    assert queue.take(2_048, 1 << 20)[-1] == ("one", len(first) - 2 + 2_048)
    queue.put("late", ("late", 0), 1, 100)
    queue.put("one", ("one", 6_000), 1, 100)
    assert ("late", 0) in queue.take(2_048, 1 << 20)[:2]


def test_many_owners_with_an_event_each_share_a_whole_group() -> None:
    queue: GroupQueue[int] = GroupQueue()
    for number in range(1_000):
        queue.put(f"user{number}", number, 1, 100)
    assert queue.take(2_048, 1 << 20) == list(range(1_000))
    for number in range(3_000):
        queue.put(f"user{number}", number, 1, 100)
    assert queue.take(2_048, 1 << 20) == list(range(2_048))
    assert queue.take(2_048, 1 << 20) == list(range(2_048, 3_000))


def test_an_item_counts_for_more_than_its_content_so_that_many_empty_ones_are_bounded_too() -> None:
    queue: GroupQueue[int] = GroupQueue()
    queue.put("a", 1, 0, 100)
    assert queue.bytes == queue.bytes_of("a") == 100 + ITEM_BYTES
    assert queue.bytes_of("b") == 0
