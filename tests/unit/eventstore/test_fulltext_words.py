"""Texts as words, and what somebody searches for as an expression."""

import pytest

from huahuo.eventstore.fulltext.simplified import SIMPLIFIED
from huahuo.eventstore.fulltext.words import (
    KEY_MARK,
    TEXT_CHARS_MAX,
    WORD_CHARS_MAX,
    Term,
    Words,
    marks_of,
    match_of,
    parse,
    words_of,
)

MARKS = marks_of(("subject", "sender"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Your Invoice, No. 4711!", {"your", "invoice", "no", "4711"}),
        ("您的验证码是482913", {"您的", "的验", "验证", "证码", "码是", *"您的验证码是", "482913"}),
        ("中", {"中"}),
        ("GitHub登录 code", {"github", "登录", "登", "录", "code"}),
        ("Über ＡＢＣ１２３ café ΣΙΓΜΑΣ", {"uber", "abc123", "cafe", "σιγμασ"}),
        ("인증번호", {"인증", "증번", "번호", *"인증번호"}),
        ("發票", {"发票", "发", "票"}),
        ("头髮", {"头发", "头", "发"}),
        ("本週的帳號", {"本周", "周的", "的账", "账号", *"本周的账号"}),
        ("ﾊﾟｽﾜｰﾄﾞ", {"パス", "スワ", "ワー", "ード", *"パスワード"}),
        ("alice@example.com", {"alice", "example", "com"}),
        ("x" * (WORD_CHARS_MAX + 1) + " " + "y" * WORD_CHARS_MAX, {"y" * WORD_CHARS_MAX}),
        ("a_b—c", {"a", "b", "c"}),
        ("", set()),
    ],
)
def test_a_text_is_these_words(text: str, words: set[str]) -> None:
    assert words_of(text) == words


def test_the_table_of_simplified_characters_ends_at_once_and_leaves_most_texts_alone() -> None:
    ends = set(SIMPLIFIED.values())
    assert len(SIMPLIFIED) < 3_500
    assert not [end for end in ends if ord(end) in SIMPLIFIED]
    text = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会"
    assert text.translate(SIMPLIFIED) == text


def test_of_a_long_text_the_beginning_is_found() -> None:
    assert words_of("one " + " " * TEXT_CHARS_MAX + "two") == {"one"}


@pytest.mark.parametrize(
    ("query", "wanted", "unwanted"),
    [
        ("", (), ()),
        ("Invoice  PARIS", (Term("invoice"), Term("paris")), ()),
        ("验证码", (Term("验证"), Term("证码")), ()),
        ("码", (Term("码"),), ()),
        ("invo*", (Term("invo", prefix=True),), ()),
        ("shop -draft", (Term("shop"),), (Term("draft"),)),
        ("subject:Invoice", (Term("invoice", mark=MARKS["subject"]),), ()),
        ("SENDER:a@b.c", tuple(Term(word, mark=MARKS["sender"]) for word in "abc"), ()),
        ("unknown:field", (Term("unknown"), Term("field")), ()),
        ("shop … !", (Term("shop"),), ()),
    ],
)
def test_a_question_asks_for_these_words(
    query: str, wanted: tuple[Term, ...], unwanted: tuple[Term, ...]
) -> None:
    assert parse(query, MARKS) == Words(wanted, unwanted)


@pytest.mark.parametrize(
    "query", ["-draft", "xyz*", "a" * 41, "shop -draft@example.com", " ".join(f"w{n}" for n in range(33))]
)
def test_a_question_that_cannot_be_answered_is_none(query: str) -> None:
    assert parse(query, MARKS) is None


def test_an_expression_names_keys_and_words_and_nothing_of_fts5_gets_through() -> None:
    words = parse('a" OR b NEAR(c -d', {})
    assert words is not None
    assert match_of(words, ("u1",), ("m1", "m2"), ("c",)) == (
        f'(("{KEY_MARK}u1" AND ("{KEY_MARK}m1" OR "{KEY_MARK}m2")'
        ' AND "a" AND "or" AND "b" AND "near" AND "c")'
        f' NOT "{KEY_MARK}c") NOT "d"'
    )
