"""The texts that the audit index shows, and the syntax of its searches."""

import pytest

from huahuo.eventstore.audit.tables import match_of, shown, words_of


@pytest.mark.parametrize("name", ["password", "refresh_token", "client_secret"])
def test_a_field_that_is_named_like_a_secret_is_shown_as_sealed(name: str) -> None:
    text, value = shown(b'{"type":"t","deep":[{"%s":"geheim"}]}' % name.encode())
    assert "geheim" not in text
    assert value == {"type": "t", "deep": [{name: "[sealed]"}]}


@pytest.mark.parametrize("body", [b"\xff{", b'{"text":"\xff"}', b'{"a":' * 100_000])
def test_a_body_that_is_no_json_is_shown_all_the_same(body: bytes) -> None:
    assert shown(body)[1] == {"unreadable": body.decode(errors="replace")}


def test_values_are_searched_and_names_are_not() -> None:
    body = {"type": "t", "timestamp": "2026", "subject": "Hello", "n": 75, "to": {"a": ["x", None, True]}}
    assert words_of(body) == "Hello 75 x"
    assert words_of([1]) == ""


@pytest.mark.parametrize("text", ["", "  ", "*", '" - "', "x" * 1001])
def test_a_search_for_nothing_or_too_much_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="text"):
        match_of(text)
