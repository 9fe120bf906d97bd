"""Moments and spans as people write them."""

import pytest

from huahuo.terminal import moment_or_ago


def test_a_time_ago_is_before_now() -> None:
    now_ms = 1_795_516_267_114
    assert moment_or_ago("-5m", now_ms) == moment_or_ago("-300s", now_ms) == "2026-11-24T10:26:07.114Z"
    assert moment_or_ago("2026-11-24", now_ms) == "2026-11-24T00:00:00.000Z"


@pytest.mark.parametrize("text", ["yesterday", "-5", "5m", "2026-13-01", "9" * 30])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        moment_or_ago(text, 0)
