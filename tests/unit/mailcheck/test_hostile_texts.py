"""A mail is anybody's text: none ends a check or the index, and none is much work."""

import sys
import unicodedata
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from huahuo.eventstore.fulltext.words import normalized
from huahuo.mailcheck import records
from huahuo.mailcheck.checks import folder_reader
from huahuo.mailcheck.checks.folder_reader import RawMail, fetched_mail
from huahuo.mailcheck.codes.candidates import candidates
from huahuo.mailcheck.codes.finding import emphasised, find_code
from huahuo.mailcheck.codes.words import WORDS, plain
from huahuo.mailcheck.mime.shown import TEXT_CHARS_MAX, shown_text
from huahuo.mailcheck.records import MailRecord, entry_of

_LONG_REFERENCE = "<p>Your verification code: 482913 &#" + "1" * 5000 + ";</p>"


def _fetched(markup: str) -> str:
    body = f"From: a@example.org\r\nSubject: hello\r\nContent-Type: text/html\r\n\r\n{markup}".encode()
    return fetched_mail(RawMail(1, len(body), None, body, truncated=False), 1, 0, codes=True).code


def test_a_character_reference_of_thousands_of_digits_does_not_end_a_check() -> None:
    assert _fetched(_LONG_REFERENCE) == "482913"


def test_a_long_character_reference_is_the_character_that_a_short_one_is() -> None:
    assert shown_text(f"&#{'0' * 5000}65;&#000000000;&#1234567890x") == "A\ufffd\ufffdx"


def _failing(*_arguments: object) -> str:
    raise ValueError("a fault of the search")


def test_a_mail_whose_code_cannot_be_looked_for_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_reader, "code_of", _failing)

    assert _fetched("<p>Your verification code: 482913</p>") == ""


def _indexed_text(markup: str) -> str:
    record = MailRecord(
        1, 1, "hello", "a@example.org", "2026-01-01T00:00:00+00:00", "INBOX", False, 1, "ab" * 32
    )
    return entry_of(record, 1, f'{{"html":"{markup}"}}'.encode()).texts["text"]


def test_a_character_reference_of_thousands_of_digits_does_not_stop_the_index() -> None:
    assert "482913" in _indexed_text(_LONG_REFERENCE)


def test_the_index_takes_a_mail_whose_text_cannot_be_read_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "shown_text", _failing)

    assert _indexed_text("<p>hello</p>") == ""


def calls_of(text: str) -> int:
    """The calls that it takes to find the code of a mail."""
    calls = 0

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        find_code("receipt 1234", text)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    ("head", "first", "second"),
    [
        ("your receipt ", "authorization code 1 ", ""),
        ("your receipt 12345 ", "authorization code ", "code code code code "),
    ],
)
def test_twice_the_text_takes_twice_the_calls(head: str, first: str, second: str) -> None:
    once, twice = (calls_of(head + first * count + second * count) for count in (200, 400))
    assert twice < 3 * once


def _opcodes_of(work: Callable[[], object]) -> int:
    """The steps that the interpreter takes."""
    steps = 0

    def count(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return count

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # noqa: SLF001  Python 3.12 looks for it at `settrace` alone
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps


def test_twice_the_words_with_dashes_take_twice_the_steps() -> None:
    once, twice = (_opcodes_of(partial(candidates, "AB12-CD34 " * count)) for count in (150, 300))

    assert twice < 2.5 * once


def test_a_character_that_is_many_when_normalised_does_not_pass_the_bound() -> None:
    assert len(plain("\ufdfa" * TEXT_CHARS_MAX)) == TEXT_CHARS_MAX


def test_of_marks_on_one_letter_only_30_are_put_into_order() -> None:
    """Putting them into order takes quadratic time."""
    assert len(plain("a" + "\u0345" * 500 + "\u0316" * 500)) <= 31


def test_every_character_that_could_need_an_order_counts_as_a_mark() -> None:
    marks = [
        char
        for char in map(chr, range(sys.maxunicode + 1))
        if unicodedata.combining(unicodedata.normalize("NFKD", char)[0])
    ]

    assert [char for char in marks if len(normalized("x" + char * 200)) > 2 * 31] == []


def test_a_text_with_few_marks_is_normalised_whole() -> None:
    text = "Vérifiez ｶﾞｷﾞ เพื่อยืนยัน n\u0303 \u2014\u2014 " + "\u2014" * 50 + "e\u0301" * 50

    assert normalized(text) == unicodedata.normalize("NFKC", text)


def test_a_code_has_its_characters_on_lines_that_are_close() -> None:
    assert "4829" in plain("\n" + "\n\n".join("4829") + "\n")
    assert "4829" not in plain("\n" + ("\n" * 10).join("4829") + "\n")


def test_what_is_bold_is_so_before_many_blanks_too() -> None:
    assert emphasised(f"<p style='color:red; font-size:24px'>482 913{' ' * 30}</p>") == {"482913"}


@pytest.mark.parametrize(
    "words",
    [
        "code ",
        "pin ",
        "一码",
        "认证登录验证码密码口令",
        "4820 x ",
        " ".join(WORDS["strong"][::4]) + " ",
        " ".join(WORDS["weak"]) + " ",
    ],
    ids=["code", "pin", "compound", "wide", "numbers", "strong", "weak"],
)
def test_words_that_are_repeated_without_end_are_not_judged_one_by_one(words: str) -> None:
    some, many = (
        calls_of("your receipt 4820 " + words * (chars // len(words))) for chars in (16_000, 64_000)
    )

    assert many < 2 * some
