"""How moments, events and paths are written."""

import pytest

from huahuo.replay.history.conditions import MISSING, differences, parse_path, written
from huahuo.replay.history.history import AtHead, AtPosition, AtSeq, AtTime, Moment, parse_event, parse_moment

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("17", AtSeq(17)),
        ("@4711", AtPosition(4711)),
        ("head", AtHead()),
        ("-5m", AtTime(NOW_MS - 300_000)),
        ("-90s", AtTime(NOW_MS - 90_000)),
        ("-2h", AtTime(NOW_MS - 7_200_000)),
        ("-3d", AtTime(NOW_MS - 3 * 86_400_000)),
        ("2026-09-21T13:33:20Z", AtTime(1_789_997_600_000)),
        ("2026-09-21T15:33:20.5+02:00", AtTime(1_789_997_600_500)),
        ("2026-09-21 13:33", AtTime(1_789_997_580_000)),
        ("2026-09-21", AtTime(1_789_948_800_000)),
    ],
)
def test_a_moment_is_a_seq_a_position_a_time_or_so_long_ago(text: str, moment: Moment) -> None:
    assert parse_moment(text, NOW_MS) == moment


def test_an_event_is_named_by_its_stream_and_seq_or_its_position() -> None:
    assert parse_event("user/42#17") == ("user/42", 17)
    assert parse_event("@4711") == parse_event("4711") == ("log", 4711)
    for text in ("user/42", "#3", "user/42#x", ""):
        with pytest.raises(ValueError, match="not an event"):
            parse_event(text)


@pytest.mark.parametrize("text", ["status", "check.progress", 'cursors["imap.x.com"].INBOX.uid', "a.0.b"])
def test_a_path_is_written_as_it_is_read(text: str) -> None:
    assert written(parse_path(text)) == text


@pytest.mark.parametrize("text", ["", ".", "a..b", "a[", '["x', "a.", "x" * 501])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"path|\]"):
        parse_path(text)


def test_differences_are_told_leaf_by_leaf() -> None:
    before = {"a": 1, "b": {"c": 2, "d": 3}, "list": [1, 2]}
    after = {"a": True, "b": {"c": 2, "e": 4}, "list": [1, 3, 4]}
    told = {written(c.path): (c.before, c.after) for c in differences(before, after)}
    assert told == {
        "a": (1, True),
        "b.d": (3, MISSING),
        "b.e": (MISSING, 4),
        "list.1": (2, 3),
        "list.2": (MISSING, 4),
    }
    assert differences(before, before) == []
