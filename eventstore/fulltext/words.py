"""Texts as the words by which they are found; questions, as an expression of SQLite's FTS5; and entries.

Pure.

Languages that put spaces between words are split there, and case, accents and full-width forms make no
difference. Chinese, Japanese and Korean are split into overlapping pairs of characters: a text with
验证码 has the words 验证 and 证码, and each character by itself. Traditional characters are taken as their
simplified ones, so 發票 and 发票 are the same word.

invoice paris       both words, in any field
发票                 these characters, side by side as far as pairs can tell
invo*               words that begin so
-draft              not this word
subject:invoice     in this field
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

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


TERMS_MAX: Final = 32
PREFIX_CHARS_MIN: Final = 4
"""All words of all owners that begin so are put together: fewer letters would make that long."""
KEY_MARK: Final = "\ue000"
"""Before each key: a character that is in no word, because it is neither a letter nor a digit."""
_FIRST_MARK: Final = 0xE001


class Term(msgspec.Struct, frozen=True):
    """One word. `prefix`: words that begin so. `mark`: that of a field, "" for any."""

    word: str
    prefix: bool = False
    mark: str = ""


class Words(msgspec.Struct, frozen=True):
    """What must be there, and what must not."""

    wanted: tuple[Term, ...] = ()
    unwanted: tuple[Term, ...] = ()

    @property
    def slow(self) -> bool:
        """Whether the answer may take long in a large index."""
        return any(term.prefix for term in (*self.wanted, *self.unwanted))


def marks_of(fields: Sequence[str]) -> dict[str, str]:
    """The marks of fields that can be asked for alone."""
    return {field: chr(_FIRST_MARK + number) for number, field in enumerate(fields)}


def parse(text: str, marks: Mapping[str, str]) -> Words | None:
    """What `text` asks for, None if it holds something without any word that could be found.

    `marks`: by the names by which people limit a word to a field.
    """
    wanted: dict[Term, None] = {}
    unwanted: dict[Term, None] = {}
    for piece in text.split():
        negative = piece.startswith("-") and len(piece) > 1
        name, colon, rest = piece.lstrip("-").partition(":")
        mark = marks.get(name.lower(), "") if colon and rest else ""
        terms = _terms(rest if mark else piece, mark)
        if negative and len(terms) > 1:
            return None  # "not both" is no list of words that are not there
        (unwanted if negative else wanted).update(dict.fromkeys(terms))
        if not terms and any(char.isalnum() for char in piece):
            return None
    if len(wanted) + len(unwanted) > TERMS_MAX or (unwanted and not wanted):
        return None
    return Words(tuple(wanted), tuple(unwanted))


def match_of(
    words: Words, keys: Sequence[str], one_of: Sequence[str] = (), without: Sequence[str] = ()
) -> str:
    """The expression for entries with these words and all of `keys`.

    If there are any, also with at least one of `one_of`, and with none of `without`.
    """
    all_of = [f'"{KEY_MARK}{key}"' for key in keys]
    if one_of:
        all_of.append(f"({' OR '.join(f'"{KEY_MARK}{key}"' for key in one_of)})")
    all_of += [_quoted(term) for term in words.wanted]
    expression = " AND ".join(all_of)
    for term in (*(Term(key, mark=KEY_MARK) for key in without), *words.unwanted):
        expression = f"({expression}) NOT {_quoted(term)}"
    return expression


def _terms(piece: str, mark: str) -> list[Term]:
    found: list[Term] = []
    runs = list(runs_of(piece))
    for number, (run, pairs) in enumerate(runs):
        begins = piece.endswith("*") and number == len(runs) - 1
        if pairs:
            found += [Term(pair, mark=mark) for pair in pairs_of(run)] or [Term(run, mark=mark)]
        elif len(run) > WORD_CHARS_MAX or (begins and len(run) < PREFIX_CHARS_MIN):
            return []
        else:
            found.append(Term(run, begins, mark))
    return found


def _quoted(term: Term) -> str:
    return f'"{term.mark}{term.word}"{" *" if term.prefix else ""}'


class Entry(msgspec.Struct, frozen=True):
    """What is to be found. `keys`: small letters and digits, of which one must name the owner.

    `part`: what a caller sifts matches by. `texts` are by field. `variant` tells apart what the texts were,
    if they change: see `TextIndex.variants`.
    """

    item: int
    part: int
    at_ms: int
    keys: tuple[str, ...]
    texts: Mapping[str, str]
    variant: int = 0


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A question. All of `keys` must match, none of `without`, and one of `one_of`, if there are any.

    `since_ms` is included, `until_ms` is not. `after`: the number of the last entry before.
    """

    words: Words
    keys: tuple[str, ...]
    without: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    after: int | None = None
    oldest_first: bool = False
    limit: int = 50


class Found(msgspec.Struct, frozen=True):
    """An entry that matches: its number here, by which pages are turned, and what the caller gave."""

    number: int
    item: int
    part: int
    at_ms: int


class Place(msgspec.Struct, frozen=True):
    """Up to where of which log everything is in the index."""

    log_id: str
    position: int
