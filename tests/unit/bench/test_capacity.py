"""The search for the highest rate that a server bears."""

from bench.questions.same_rate import highest_rate


def search(bears: float, first: float, tries_max: int = 20) -> float:
    return highest_rate(lambda rate: rate <= bears, first, tries_max=tries_max)


def test_the_rate_found_is_bearable_and_within_fifteen_per_cent_of_the_limit() -> None:
    for bears in (7, 99, 100, 4_321, 90_000):
        found = search(bears, 100)
        assert bears / 1.15 <= found <= bears


def test_a_server_that_bears_nothing_has_no_capacity() -> None:
    assert search(0, 100) == 0


def test_one_failure_is_tried_again() -> None:
    tried: list[float] = []

    def bearable(rate: float) -> bool:
        tried.append(rate)
        return len(tried) > 1 and rate <= 200

    assert highest_rate(bearable, 100, tries_max=20) > 170
    assert tried[:2] == [100, 100]


def test_the_search_ends_when_the_server_is_no_longer_fit_to_be_asked() -> None:
    answers = iter([True, None])
    assert highest_rate(lambda _: next(answers), 100, tries_max=20) == 100
