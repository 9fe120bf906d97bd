"""A mail is anybody's text: none ends a check or the index, and none is much work."""

import pytest

from huahuo.mailcheck.checks import reading
from huahuo.mailcheck.checks.fetching import RawMail
from huahuo.mailcheck.checks.reading import fetched_mail
from huahuo.mailcheck.codes.plain import stripped
from huahuo.mailcheck.finding import entries
from huahuo.mailcheck.finding.entries import entry_of
from huahuo.mailcheck.tables.records import MailRecord

_LONG_REFERENCE = "<p>Your verification code: 482913 &#" + "1" * 5000 + ";</p>"


def _fetched(markup: str) -> str:
    body = f"From: a@example.org\r\nSubject: hello\r\nContent-Type: text/html\r\n\r\n{markup}".encode()
    return fetched_mail(RawMail(1, len(body), None, body, truncated=False), 1, 0, codes=True).code


def test_a_character_reference_of_thousands_of_digits_does_not_end_a_check() -> None:
    assert _fetched(_LONG_REFERENCE) == "482913"


def test_a_long_character_reference_is_the_character_that_a_short_one_is() -> None:
    assert stripped(f"&#{'0' * 5000}65;&#000000000;&#1234567890x") == "A\ufffd\ufffdx"


def _failing(*_arguments: object) -> str:
    raise ValueError("a fault of the search")


def test_a_mail_whose_code_cannot_be_looked_for_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "code_of", _failing)

    assert _fetched("<p>Your verification code: 482913</p>") == ""


def _indexed_text(markup: str) -> str:
    record = MailRecord(
        1, 1, "hello", "a@example.org", "2026-01-01T00:00:00+00:00", "INBOX", False, 1, "ab" * 32
    )
    return entry_of(record, 1, f'{{"html":"{markup}"}}'.encode()).texts["text"]


def test_a_character_reference_of_thousands_of_digits_does_not_stop_the_index() -> None:
    assert "482913" in _indexed_text(_LONG_REFERENCE)


def test_the_index_takes_a_mail_whose_text_cannot_be_read_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "stripped", _failing)

    assert _indexed_text("<p>hello</p>") == ""
