"""What the parameters of a request ask for, and what is refused."""

from collections.abc import Callable

import pytest

from huahuo.eventstore.model import Head
from huahuo.transport.http.stream_pages import (
    After,
    AskedWrongly,
    after_of,
    limit_of,
    place_asked,
    seq_of,
    wait_s_of,
)
from huahuo.transport.protocol.kinds import Outcome

HEAD = Head(first=11, seq=120)
LOG = "a7c1"


@pytest.mark.parametrize(
    ("text", "outcome", "after"),
    [
        ("start", Outcome.GAP, 120),
        ("head", Outcome.FRESH, 120),
        ("snapshot", Outcome.SNAPSHOT, 120),
        ("40", Outcome.RESUMED, 40),
        ("a7c1:40", Outcome.RESUMED, 40),
        ("b000:40", Outcome.RESET, 120),
        (":40", Outcome.RESET, 120),
        ("3", Outcome.GAP, 120),
        ("121", Outcome.RESET, 120),
        ("-50", Outcome.FRESH, 70),
        ("-500", Outcome.FRESH, 10),
    ],
)
def test_a_place_has_the_outcome_of_the_protocol(text: str, outcome: Outcome, after: int) -> None:
    place = after_of(text).resolved(HEAD, LOG)
    assert (place.outcome, place.after) == (outcome, after)


@pytest.mark.parametrize("text", ["tail", "-0", "1.5", "a7c1:", "٣", "9" * 17, "x" * 65 + ":1", "-1000000"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(AskedWrongly, match="Last-Event-ID"):
        after_of(text)


def test_the_id_of_the_last_event_wins_over_the_url_that_a_browser_repeats() -> None:
    assert place_asked({"after": "7"}, "a7c1:9", "head") == After(9, "a7c1")
    assert place_asked({"after": "7"}, None, "head") == After(7)
    assert place_asked({}, None, "head") == After("head")


@pytest.mark.parametrize(
    ("read", "name", "text"),
    [
        (limit_of, "limit", "0"),
        (limit_of, "limit", "1001"),
        (limit_of, "limit", "many"),
        (wait_s_of, "wait", "-1"),
        (wait_s_of, "wait", "61"),
        (wait_s_of, "wait", "nan"),
        (wait_s_of, "wait", "long"),
        (seq_of, "seq", ""),
        (seq_of, "seq", "-1"),
        (seq_of, "seq", "9007199254740993"),
    ],
)
def test_a_number_beyond_its_bounds_is_refused_with_its_name(
    read: Callable[[dict[str, str]], object], name: str, text: str
) -> None:
    with pytest.raises(AskedWrongly, match=f"{name}:"):
        read({name: text})


def test_without_parameters_a_page_is_short_and_comes_at_once() -> None:
    assert (limit_of({}), wait_s_of({})) == (100, 0.0)
    assert (limit_of({"limit": "1000"}), wait_s_of({"wait": "0.5"})) == (1000, 0.5)
