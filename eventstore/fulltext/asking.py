"""What somebody searches for: words and where they must be, as an expression of SQLite's FTS5. Pure.

invoice paris       both words, in any field
发票                 these characters, side by side as far as pairs can tell
invo*               words that begin so
-draft              not this word
subject:invoice     in this field
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from huahuo.eventstore.fulltext.words import WORD_CHARS_MAX, pairs_of, runs_of

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
