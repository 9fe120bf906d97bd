"""Conditions over a state: what they mean, and that they are never a program."""

import pytest

from huahuo.replay.history.conditions import CHARS_MAX, DEPTH_MAX, BadPredicate, holds, parse

STATE = {
    "status": "error",
    "progress": 100,
    "check": None,
    "flag": True,
    "message": "无法连接 (cannot be reached)",
    "cursors": {"imap.x.com": {"INBOX": {"uid": 7}}},
    "list": [1, 2],
}


@pytest.mark.parametrize(
    "text",
    [
        'status == "error"',
        "status == 'error' and progress > 50",
        "progress >= 100 and progress <= 100 and not progress < 100",
        'status != "ok" or progress == 3',
        "not (status == 'ok' or progress < 1)",
        'cursors["imap.x.com"].INBOX.uid == 7',
        "list[1] == 2",
        "2 in list",
        "message contains 'reached'",
        "check == null",
        "nothing.there == null",
        "flag",
        "flag == true",
        "progress > 99.5",
        "-1 < progress",
        r"""status != "a\"b" """,
    ],
)
def test_what_is_true_of_the_state_holds(text: str) -> None:
    assert holds(parse(text), STATE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "status ==",
        "== 3",
        "(status == 3",
        "status == 3)",
        "status = 3",
        "status == 3 status",
        "'open",
        "__import__('os').system('true')",
        "progress > 50; flag",
        "and",
        "x[",
    ],
)
def test_what_is_no_condition_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(BadPredicate):
        parse(text)


def test_a_condition_is_bounded_in_length_and_depth() -> None:
    with pytest.raises(BadPredicate):
        parse("a" * (CHARS_MAX + 1))
    for deep in ("(" * (DEPTH_MAX + 2) + "a", "not " * (DEPTH_MAX + 2) + "a"):
        with pytest.raises(BadPredicate):
            parse(deep)
