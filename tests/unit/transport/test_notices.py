"""Notices of refused clients: the first few are logged, the others are counted."""

from huahuo.transport.access.door import NOTICES_BURST, NOTICES_PER_MINUTE, Notices


def test_the_first_ones_are_told_and_a_flood_is_held_back() -> None:
    notices = Notices()
    told = [notices.due("origin_refused", 0.0) for _ in range(NOTICES_BURST + 1000)]
    assert told == [0] * NOTICES_BURST + [None] * 1000


def test_the_next_one_that_is_told_says_how_many_were_held_back() -> None:
    notices = Notices()
    for _ in range(NOTICES_BURST + 7):
        notices.due("origin_refused", 0.0)
    assert notices.due("origin_refused", 60.0 / NOTICES_PER_MINUTE) == 7


def test_kinds_do_not_hold_each_other_back() -> None:
    notices = Notices()
    for _ in range(NOTICES_BURST + 1):
        notices.due("origin_refused", 0.0)
    assert notices.due("token_refused", 0.0) == 0
