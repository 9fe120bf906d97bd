"""What waits for entities is bounded in bytes: for each of them and for all."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huahuo.actors.entities.decider import Busy
from huahuo.actors.entities.directory import InboxBytes


def test_all_inboxes_together_are_bounded_in_bytes() -> None:
    inboxes = InboxBytes(each_max=80, all_max=100)
    with inboxes.hold("a/1", 80), inboxes.hold("a/2", 20):
        with pytest.raises(Busy), inboxes.hold("a/2", 31):  # 51 of an even share of 50
            pass
        with inboxes.hold("a/3", 33):
            assert inboxes.total == 133
    assert inboxes.total == 0


def test_who_fills_the_room_does_not_keep_others_out() -> None:
    inboxes = InboxBytes(each_max=100, all_max=100)
    with inboxes.hold("a/1", 100):
        with pytest.raises(Busy), inboxes.hold("a/1", 1):
            pass
        with inboxes.hold("a/2", 50):
            pass


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 150), st.booleans()), max_size=60))
def test_what_is_held_never_exceeds_twice_the_bound_and_is_given_back(
    steps: list[tuple[int, int, bool]],
) -> None:
    inboxes = InboxBytes(each_max=40, all_max=100)
    with ExitStack() as all_held:
        for key, size, gives_back in steps:
            with ExitStack() as held:
                try:
                    held.enter_context(inboxes.hold(f"a/{key}", size))
                except Busy:
                    continue
                assert inboxes.total <= 200
                if not gives_back:
                    all_held.push(held.pop_all())
    assert inboxes.total == 0
