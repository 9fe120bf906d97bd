"""The texts that the audit index shows, and the syntax of its searches."""

import pytest

from huahuo.eventstore.audit.tables import match_of, shown


@pytest.mark.parametrize("body", [b"\xff{", b'{"text":"\xff"}', b'{"a":' * 100_000])
def test_a_body_that_is_no_json_is_shown_all_the_same(body: bytes) -> None:
    assert shown(body)[1] == {"unreadable": body.decode(errors="replace")}


@pytest.mark.parametrize("text", ["", "  ", "*", '" - "', "x" * 1001])
def test_a_search_for_nothing_or_too_much_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="text"):
        match_of(text)
