"""What in a mail could be a code by its form: numbers, and words of letters and digits. Pure."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from huahuo.mailcheck.codes.names import is_wide

_DIGITS_MIN, _DIGITS_MAX = 4, 8
_CANDIDATES_MAX = 400
_PHRASE_WORTH = -0.4
"""Of words with dashes: only a name that is a code's alone makes them one."""
_VOUCHER_WORTH = -0.25
_TICKET_WORTH = -0.2
UNSURE = -0.1
"""What is worth less needs a name close by."""
_SIX_DIGITS = 6
"""By far the usual length."""

_LETTER: Final = r"A-Za-z0-9_À-ɏЀ-ӿ"
_RUN = re.compile(rf"[0-9](?<![{_LETTER}][0-9])[0-9]*(?:[-., /:'][0-9]+)*(?![{_LETTER}])")
"""What begins with a digit is found four times as fast as what begins with a look behind it."""
_MARKED = re.compile(rf"(?<![{_LETTER}])[+#!]")
"""Directly before a number: it is one to call, or that of an issue or a merge request."""
_KINDS = (
    bytes(
        ord(
            "0"
            if char.isdecimal()
            else "A"
            if char.isupper()
            else "a"
            if char.islower()
            else "-"
            if char == "-"
            else " "
        )
        for char in map(chr, range(128))
    )
    + b" " * 128
)
_MADE_OF_BOTH = (b"A0", b"0A", b"a0", b"0a", b"A-0", b"0-A", b"a-0", b"0-a", b"A-A", b"AAAA")
"""What a text has, by the kinds of its characters, in which a word that `_word` takes can be."""
_MIXED = re.compile(
    rf"(?<![{_LETTER}.-])(?=[A-Z]*[0-9]|[A-Z0-9-]{{4}}|[A-Za-z-]+[0-9])"
    rf"[A-Za-z0-9]{{2,10}}(?:-[A-Za-z0-9]{{2,10}}){{0,3}}(?![{_LETTER}-])"
)
"""A word of the text without capitals or digits, as most are, is passed over by the second line."""
_GROUPED = re.compile(
    r"[0-9]{2,4}(?:([- ])[0-9]{2,4})(?:\1[0-9]{2,4}){0,2}|[0-9](?:([- ])[0-9])(?:\2[0-9]){2,6}"
)
_PAIRS = re.compile(r"^ ?((?:[A-Z][0-9]|[0-9][A-Z])(?: (?:[A-Z][0-9]|[0-9][A-Z])){2,4}) ?$", re.MULTILINE)
"""`R7 K9 D2`, alone on its line."""
_PHRASE = re.compile(r"(?:^ ?|: )([a-z]{3,10}(?:-[a-z]{3,10}){2,4}) ?$", re.MULTILINE)
"""`bold-river-sand-lamp`, alone on its line or after a colon."""
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}[-/. ](?:0?[1-9]|1[0-2])(?:[-/. ](?:0?[1-9]|[12][0-9]|3[01]))?"
    r"|(?:0?[1-9]|[12][0-9]|3[01])[-/. ](?:0?[1-9]|[12][0-9]|3[01])[-/. ](?:19|20)[0-9]{2}"
)
"""With a month and a day that there are: `2051 77` is none."""
_SPELLED = re.compile(r"[0-9](?:([- ])[0-9])(?:\1[0-9]){4,6}")
"""Digit by digit: only codes are written like this."""
_ROUND = re.compile(r"[0-9]{2}00|[1-9][0-9]?0{4,6}")
_ROUND_WORTH = -0.15
"""`1800` is rather a time or an amount: of codes, one of a hundred looks so."""
_RANGE = re.compile(r"[0-9]{2}-[0-9]{2}")
_YEARS = re.compile(r"(?:19[0-9]|20[0-3])[0-9](?:[- ](?:19[0-9]|20[0-3])[0-9])?")
"""Of what mails tell. `2046` is rather a code."""
_VOUCHER = re.compile(r"[A-Z]{4,}[0-9]{1,4}")
"""`SPRING25`: a word that is easily remembered. A code that is made by chance hardly looks like it."""
_POSTCODE = re.compile(r"[A-FH-Z]-[0-9]{4,5}$")
_THEN_COUNT = re.compile(r"([0-9]{4,8}(?:[- ][0-9]{2,4})*),[0-9]{1,3}")
"""`482913,5分钟`: where a script has no blanks, a comma may be followed by how long a code holds."""
_PERMIT = re.compile(r"[A-Z][0-9]-(?:19|20)[0-9]{6}")
"""`B2-20090059`: a permit to run a site, with its year, which Chinese mails end with."""
_TICKET = re.compile(r"[A-Z]{4,10}-[0-9]{5,6}")
"""`PLAT-20481`."""
_NUMBERED = re.compile(r"[A-Z]{1,2}[0-9]{2,3}")
"""`G400`: rather a room, a form, a model than made by chance."""
_PREFIXED = re.compile(r"[A-Z]{1,3}-([0-9]{4,8})")

_MARGIN_CHARS = 24
"""How much of a line with nothing else on it is looked at, on both sides of a number."""


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """Where it stands, and what to type for it."""

    start: int
    end: int
    text: str
    worth: float
    """Added to its score, for its form."""
    spelled: bool = False
    """Its digits stand apart, one by one."""


def candidates(shown: str) -> list[Candidate]:
    """All of a text, at most `_CANDIDATES_MAX` of each form and together."""
    numbers = _few(_numbers(shown))
    kinds = shown.encode("ascii", "replace").translate(_KINDS)
    mixed = any(kind in kinds for kind in _MADE_OF_BOTH)
    words = _few(_words(shown)) if mixed else []
    found = _outside(numbers, [one for one in words if "-" in shown[one.start : one.end]]) + words
    if mixed:
        pairs = _few(_PAIRS.finditer(shown))
        found += [Candidate(*pair.span(1), pair[1].replace(" ", ""), UNSURE / 2) for pair in pairs]
    if shown.count("-") > 1:
        phrases = _few(_PHRASE.finditer(shown))
        found += [Candidate(*phrase.span(1), phrase[1], _PHRASE_WORTH) for phrase in phrases]
    return found[:_CANDIDATES_MAX]


def _few[T](found: Iterator[T]) -> list[T]:
    return list(islice(found, _CANDIDATES_MAX))


def _numbers(shown: str) -> Iterator[Candidate]:
    for match in _RUN.finditer(shown):
        run, start = _run(shown, match), match.start()
        code = _number(run)
        if code and not _MARKED.match(shown, start - 1) and not _is_of_permit(shown, start):
            spelled = _SPELLED.fullmatch(run) is not None
            alone = 0.05 if len(code) == _SIX_DIGITS else 0.0
            grouped = 0.0 if spelled or run == code else -0.15 if _RANGE.fullmatch(run) else -0.06
            year = -0.35 if _YEARS.fullmatch(run) else _ROUND_WORTH if _ROUND.fullmatch(run) else 0.0
            postcode = -0.15 if _POSTCODE.match(shown, max(0, start - 2), start + len(run)) else 0.0
            worth = alone + grouped + year + postcode
            yield Candidate(start, start + len(run), code, worth, spelled)


def _run(shown: str, match: re.Match[str]) -> str:
    """What was found, without an amount that begins after a comma."""
    run = match[0]
    if "," not in run or not is_wide(shown[match.end() : match.end() + 1]):
        return run
    then = _THEN_COUNT.fullmatch(run)
    return then[1] if then else run


def _is_of_permit(shown: str, start: int) -> bool:
    return shown[start - 1 : start] == "-" and _PERMIT.match(shown, max(0, start - 3)) is not None


def _words(shown: str) -> Iterator[Candidate]:
    for match in _MIXED.finditer(shown):
        made = _word(match[0])
        if made is not None:
            yield Candidate(match.start(), match.end(), *made)


def _outside(numbers: list[Candidate], words: list[Candidate]) -> list[Candidate]:
    """Those that begin in none of the words. Both are in order, and are gone through once."""
    found: list[Candidate] = []
    left, end = words[::-1], 0
    for number in numbers:
        while left and left[-1].start <= number.start:
            end = left.pop().end
        if number.start >= end:
            found.append(number)
    return found


def _number(run: str) -> str:
    """The digits of a number that could be a code; "" for a date, an amount, a phone."""
    if len(run) < _DIGITS_MIN:
        return ""
    digits = run if run.isdecimal() else run.replace("-", "").replace(" ", "")
    if not _DIGITS_MIN <= len(digits) <= _DIGITS_MAX or not digits.isdecimal():
        return ""
    if digits != run and (not _GROUPED.fullmatch(run) or _DATE.fullmatch(run)):
        return ""
    return digits


def _word(word: str) -> tuple[str, float] | None:
    """What to type for a word of letters and digits, and its worth."""
    prefixed = _PREFIXED.fullmatch(word)
    if prefixed:  # `G-482913`: the letter only names the sender; `OPS-4821` is rather a ticket
        return prefixed[1], 0.0 if word[1] == "-" else _TICKET_WORTH
    joined = word.replace("-", "")
    if _PERMIT.fullmatch(word):
        return None
    if not 4 <= len(joined) <= 12 or joined.isdecimal():  # noqa: PLR2004  shorter ones are words, longer ones keys
        return None
    if _TICKET.fullmatch(word) or _NUMBERED.fullmatch(word):
        return word, _TICKET_WORTH
    digits = sum(char.isdecimal() for char in joined)
    if joined.isupper() and digits:
        return word, _VOUCHER_WORTH if _VOUCHER.fullmatch(word) else -0.05 if digits > 1 else -0.2
    if joined.isupper() and "-" in word and _of_equal_groups(word):
        return word, -0.2
    if digits > 1 and _of_equal_groups(word) and len(joined) >= 5:  # noqa: PLR2004  `2fa`, `h264` and the like are shorter
        return word, -0.25
    return (word, -0.3) if joined.isupper() and len(joined) >= 5 else None  # noqa: PLR2004


def _of_equal_groups(word: str) -> bool:
    return "-" not in word or len({len(part) for part in word.split("-")}) == 1


def is_like_a_word(candidate: Candidate) -> bool:
    """Whether it is made like the code of a voucher: `SPRING25`."""
    return _VOUCHER.fullmatch(candidate.text) is not None


def is_ticket(candidate: Candidate) -> bool:
    """Whether it is made like the key of a ticket: `PLAT-20481`."""
    return _TICKET.fullmatch(candidate.text) is not None


def is_firm(candidate: Candidate) -> bool:
    """Whether its form makes it no amount, year or postcode."""
    return candidate.worth >= UNSURE and (
        not candidate.text.isdecimal() or len(candidate.text) >= _SIX_DIGITS
    )


def stands_alone(shown: str, candidate: Candidate) -> bool:
    """Whether nothing else is on its line."""
    before = shown.rfind("\n", max(0, candidate.start - _MARGIN_CHARS), candidate.start)
    after = shown.find("\n", candidate.end, candidate.end + _MARGIN_CHARS)
    first = shown[before + 1 if before >= 0 else max(0, candidate.start - _MARGIN_CHARS) : candidate.start]
    last = shown[candidate.end : after if after >= 0 else candidate.end + _MARGIN_CHARS]
    return not first.strip(" *\"'[(>|") and not last.strip(" *\"'])|.")
