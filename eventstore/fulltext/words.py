"""Texts as the words by which they are found. Pure.

Languages that put spaces between words are split there, and case, accents and full-width forms make no
difference. Chinese, Japanese and Korean are split into overlapping pairs of characters: a text with
验证码 has the words 验证 and 证码, and each character by itself. Traditional characters are taken as their
simplified ones, so 發票 and 发票 are the same word.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from huahuo.eventstore.fulltext.simplified import SIMPLIFIED

WORD_CHARS_MAX: Final = 40
"""What is longer is no word but a key, a link or an encoded file, and is left out."""
TEXT_CHARS_MAX: Final = 65_536
"""Of one field. What follows is not found."""

_CLOSE: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_MARKS_MAX: Final = 30
"""Marks in a row that are kept, as in Unicode's stream-safe text. No language puts as many on a letter."""
_MARKS: Final = re.compile(r"[\W\uff9e\uff9f]{31,}")
"""Where more could be: only these two are marks when normalised and letters before."""
_RUN: Final = re.compile(r"[^\W_]+")
_PARTS: Final = re.compile(f"[{_CLOSE}]+|[^{_CLOSE}]+")
_CLOSE_CHAR: Final = re.compile(f"[{_CLOSE}]")


def words_of(text: str) -> set[str]:
    """The words of a text, each once."""
    found: set[str] = set()
    for run, pairs in runs_of(text[:TEXT_CHARS_MAX]):
        if pairs:
            found.update(pairs_of(run))
            found.update(run)
        elif len(run) <= WORD_CHARS_MAX:
            found.add(run)
    return found


def runs_of(text: str) -> Iterator[tuple[str, bool]]:
    """Runs of letters and digits in order, and whether a run is of a language that is split into pairs."""
    if not text.isascii():
        text = normalized(text)
    for run in _RUN.findall(text.casefold()):
        if run.isascii():
            yield run, False
            continue
        for part in _PARTS.findall(run):
            if _CLOSE_CHAR.match(part):
                yield part.translate(SIMPLIFIED), True
            else:
                yield (part if part.isascii() else _without_accents(part)), False


def normalized(text: str) -> str:
    """`text` in the form NFKC, without what follows 30 marks on one letter.

    Putting marks into their order takes quadratic time.
    """
    return unicodedata.normalize("NFKC", _MARKS.sub(_with_few_marks, text))


def _with_few_marks(run: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for char in run[0]:
        marks = marks + 1 if char in "\uff9e\uff9f" or unicodedata.category(char)[0] == "M" else 0
        if marks <= _MARKS_MAX:
            kept.append(char)
    return "".join(kept)


def pairs_of(run: str) -> list[str]:
    """The overlapping pairs of a run."""
    return [run[at : at + 2] for at in range(len(run) - 1)]


def _without_accents(word: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", word) if not unicodedata.combining(char))
