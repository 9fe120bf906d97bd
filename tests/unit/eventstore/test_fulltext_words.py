"""Texts as words, and what somebody searches for as an expression."""

import pytest

from huahuo.eventstore.fulltext.words import (
    WORD_CHARS_MAX,
    Term,
    Words,
    marks_of,
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
