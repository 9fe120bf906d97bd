"""What if: edits of a history, and the difference of two runs."""

import pytest

from huahuo.replay.history.conditions import parse_path
from huahuo.replay.history.detached_history import (
    Add,
    Edit,
    Put,
    Skip,
    apart,
    fork,
)
from tests.support.worlds.replaying import U, tell

EVENTS = tell().history.events


def test_a_field_that_is_set_is_another_and_the_rest_stays() -> None:
    other = fork(EVENTS, [Put((U, 1), parse_path("email"), "x@y.org")])
    assert b'"x@y.org"' in other[0].body
    assert [e.body for e in other[1:]] == [e.body for e in EVENTS[1:]]
    assert apart(EVENTS, other) == {U: ([EVENTS[0]], [other[0]])}


def test_what_is_added_comes_last() -> None:
    other = fork(EVENTS, [Add(U, "check_progress", {"email_id": 1, "progress": 7}, "mailbox/1")])
    assert (other[-1].type, other[-1].seq) == ("check_progress", sum(e.stream == U for e in EVENTS) + 1)
    assert apart(EVENTS, other) == {U: ([], [other[-1]])}


def test_two_runs_are_compared_stream_by_stream() -> None:
    other = fork(EVENTS, [Skip((U, 4))])
    assert apart(EVENTS, other) == {U: ([next(e for e in EVENTS if (e.stream, e.seq) == (U, 4))], [])}
    assert apart(EVENTS, sorted(EVENTS, key=lambda event: event.stream)) == {}, "another order of streams"


@pytest.mark.parametrize("edit", [Skip(("user/99", 1)), Put((U, 999), ("a",), 1)])
def test_an_edit_of_what_is_not_there_is_refused(edit: Edit) -> None:
    with pytest.raises(LookupError):
        fork(EVENTS, [edit])


def test_a_path_that_is_not_in_the_body_is_refused() -> None:
    with pytest.raises(ValueError, match="has no"):
        fork(EVENTS, [Put((U, 1), ("nothing", "there"), 1)])
