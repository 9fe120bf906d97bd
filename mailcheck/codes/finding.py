"""The verification code of a mail, and how sure that is. Pure; bounded by `plain.TEXT_CHARS_MAX`.

Numbers and words that could be a code (`_candidates`) are judged by the nearest word that announces one
(`words`), by what stands directly before and after them, and by their form. The best of them is the code if
it reaches `CONFIDENCE_MIN`.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Final, Literal

import msgspec

from huahuo.mailcheck.codes.plain import plain, stripped
from huahuo.mailcheck.codes.words import (
    ASKS,
    ASKS_AFTER,
    DIGITS,
    DIGITS_WIDE,
    LABELS,
    LAST,
    LAST_WIDE,
    NOT_AFTER,
    NOT_BEFORE,
    SIGN_IN,
    STRONG,
    TO_CONTACT,
    UNITS,
    WEAK,
)

CONFIDENCE_MIN = 0.5
_AHEAD_CHARS = 160
"""How far after its announcement a code may stand."""
_BEHIND_CHARS = 60
"""How far before it: `482913 is your code`."""
_NEAR_CHARS = 24
_DIGITS_MIN, _DIGITS_MAX = 4, 8
_PHONE_DIGITS_MIN = 8
"""A number with this many digits may be a phone number, so `use` before it does not make it a code."""
_STRONG, _WEAK = 0.9, 0.68
_UNSURE = -0.1
_ASKING: Final[tuple[tuple[Literal["before", "after"], tuple[str, ...]], ...]] = (
    ("before", ASKS),
    ("after", ASKS_AFTER),
)
_CANDIDATES_MAX = 400
_ANNOUNCEMENTS_MAX = 60

_LETTER = r"A-Za-z0-9_À-ɏЀ-ӿ"
_RUN = re.compile(rf"(?<![{_LETTER}])[+#]?[0-9]+(?:[-., /:'][0-9]+)*(?![{_LETTER}])")
_MIXED = re.compile(rf"(?<![{_LETTER}.-])[A-Za-z0-9]{{2,10}}(?:-[A-Za-z0-9]{{2,10}}){{0,3}}(?![{_LETTER}-])")
_GROUPED = re.compile(
    r"[0-9]{2,4}(?:([- ])[0-9]{2,4})(?:\1[0-9]{2,4}){0,2}|[0-9](?:([- ])[0-9])(?:\2[0-9]){2,6}"
)
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}[-/. ][0-9]{1,2}[-/. ][0-9]{1,2}|[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ](?:19|20)[0-9]{2}"
)
_YEARS = re.compile(r"(?:19|20)[0-9]{2}(?:[- ](?:19|20)[0-9]{2})?")
_PREFIXED = re.compile(r"[A-Z]{1,3}-([0-9]{4,8})")
_MONEY_BEFORE = re.compile(r"[$€£¥₽₩]\s?$|(?:usd|eur|rmb|cny|gbp|rub|us\$|nt\$)\s?$")
_LABEL_END = re.compile(r"(?:[\s:#№(\[\"'.=*-]|(?<![a-z])(?:is|ist|est|es|number|no|nr|id)|为|是|は)*$")
_SENTENCE_END = re.compile(r"[.!?;]\s(?![a-zß-ÿа-я])")
_IN_SENTENCE = re.compile(r"(?:[^.,!?;\n]|[.,!?;](?!\s)){0,48}")
_ADJOINS = re.compile(r"[^\w.!?]{0,6}")
_LAST_CHARS = 32
_LAST_DIGITS = re.compile(
    rf"\b(?:{'|'.join(LAST)})\b[^.!?;,\n]{{0,12}}\b(?:{'|'.join(DIGITS)})$"
    rf"|(?:{'|'.join(LAST_WIDE)})\s?[0-9一二三四五六七八两네]?\s?(?:{'|'.join(DIGITS_WIDE)})$"
)
_BETWEEN_NEAR = re.compile(
    r"\W*(?:is|ist|lautet|est|es|are|为|是|は|는|은|이|:|-|=|\s)*\W*",
    re.IGNORECASE,
)


class Code(msgspec.Struct, frozen=True, gc=False):
    """A code as a user types it: without the blanks and dashes between digits. `confidence` is 0.5 to 1."""

    text: str
    confidence: float


class _Candidate(msgspec.Struct, frozen=True, gc=False):
    start: int
    end: int
    text: str
    worth: float
    """Added to its score, for its form."""


class _Announcement(msgspec.Struct, frozen=True, gc=False):
    start: int
    end: int
    worth: float
    beside: Literal["", "before", "after"] = ""
    """An order to enter something announces only the number directly after it; some stand after theirs."""


def find_code(subject: str, text: str) -> Code | None:
    """The code of a mail, None if there seems to be none."""
    shown = plain(subject) + "\n" + plain(text)
    lower = shown.lower()
    announced = _announcements(lower)
    if not announced:
        return None
    best, best_score = None, CONFIDENCE_MIN
    for candidate in _candidates(shown):
        score = max(_score(shown, candidate, word) for word in announced) + candidate.worth
        if score > best_score and not _is_else(shown, lower, candidate):
            best, best_score = candidate, score
    return None if best is None else Code(best.text, round(min(best_score, 1.0), 2))


def code_of(subject: str, text: str, markup: str) -> Code | None:
    """The code of a mail by its plain part, else by its HTML: some plain parts only say "see the HTML"."""
    found = find_code(subject, text) if text.strip() or not markup else None
    return found or (find_code(subject, stripped(markup)) if markup else None)


def _announcements(lower: str) -> list[_Announcement]:
    """What announces a code, strong words first and orders last: of a long mail only the first count."""
    strong = [
        _Announcement(at, at + len(word), _STRONG)
        for word in STRONG
        if word in lower
        for at in _places(lower, word)
    ]
    weak: list[_Announcement] = []
    orders: list[_Announcement] = []
    about = any(word in lower for word in SIGN_IN)
    for word in (word for word in WEAK if about and word in lower):
        for at in _places(lower, word):
            end = at + len(word)
            if any(one.start <= at and end <= one.end for one in strong) or _is_other_kind(lower, at, end):
                continue
            weak.append(_Announcement(at, end, _WEAK))
    for beside, words in _ASKING if about else ():
        for word in (word for word in words if word in lower):
            orders += [_Announcement(at, at + len(word), _WEAK, beside) for at in _places(lower, word)]
    ranked = (sorted(found, key=lambda one: one.start) for found in (strong, weak, orders))
    return list(chain.from_iterable(ranked))[:_ANNOUNCEMENTS_MAX]


def _places(lower: str, word: str) -> Iterator[int]:
    """Where `word` stands as a word of its own; languages without blanks have no such bounds."""
    bound = word[0] < "⺀"
    at = lower.find(word)
    while at >= 0:
        end = at + len(word)
        before, after = lower[at - 1 : at], lower[end : end + 1]
        if not bound or not (_joins(before) or _joins(after)):
            yield at
        at = lower.find(word, end)


def _joins(char: str) -> bool:
    """Whether a letter next to a word makes it a part of a longer one."""
    return char.isalpha() and not _wide(char)


def _wide(char: str) -> bool:
    return char >= "⺀"


def _is_other_kind(lower: str, start: int, end: int) -> bool:
    before, after = lower[max(0, start - 16) : start].rstrip(" -_'\""), lower[end : end + 20].lstrip(" -_")
    return before.endswith(NOT_BEFORE) or after.startswith(NOT_AFTER) or _ends_with_last_digits(lower, end)


def _ends_with_last_digits(lower: str, end: int) -> bool:
    return _LAST_DIGITS.search(lower, max(0, end - _LAST_CHARS), end) is not None


def _candidates(shown: str) -> list[_Candidate]:
    found: list[_Candidate] = []
    for match in _RUN.finditer(shown):
        code = _number(match[0])
        if code:
            alone = 0.05 if len(code) == 6 else 0.0  # noqa: PLR2004  by far the usual length
            grouped = -0.06 if match[0] != code else 0.0
            year = -0.35 if _YEARS.fullmatch(match[0]) else 0.0
            found.append(_Candidate(match.start(), match.end(), code, alone + grouped + year))
    for match in _MIXED.finditer(shown):
        made = _word(match[0])
        if made is not None:
            found.append(_Candidate(match.start(), match.end(), *made))
    return found[:_CANDIDATES_MAX]


def _number(run: str) -> str:
    """The digits of a number that could be a code; "" for a date, an amount, a phone."""
    digits = re.sub(r"[- ]", "", run)
    if not digits.isdecimal() or not _DIGITS_MIN <= len(digits) <= _DIGITS_MAX:
        return ""
    if digits != run and (not _GROUPED.fullmatch(run) or _DATE.fullmatch(run)):
        return ""
    return digits


def _word(word: str) -> tuple[str, float] | None:
    """What to type for a word of letters and digits, and its worth."""
    prefixed = _PREFIXED.fullmatch(word)
    if prefixed:  # `G-482913`: the letter only names the sender
        return prefixed[1], 0.0
    joined = word.replace("-", "")
    if not 4 <= len(joined) <= 12 or joined.isdecimal():  # noqa: PLR2004  shorter ones are words, longer ones keys
        return None
    digits = sum(char.isdecimal() for char in joined)
    if joined.isupper() and digits:
        return word, -0.05 if digits > 1 else -0.2
    if joined.isupper() and "-" in word and len({len(part) for part in word.split("-")}) == 1:
        return word, -0.2
    if digits > 1 and "-" not in word and len(joined) >= 5:  # noqa: PLR2004  `2fa`, `h264` and the like are shorter
        return word, -0.25
    return (word, -0.3) if joined.isupper() and len(joined) >= 5 else None  # noqa: PLR2004


def _score(shown: str, candidate: _Candidate, word: _Announcement) -> float:
    """How likely `word` announces this candidate."""
    if word.beside:
        ordered = candidate.worth >= _UNSURE and _adjoins(shown, candidate, word)
        return word.worth if ordered and not _is_phone(shown, candidate) else 0.0
    if word.end <= candidate.start:
        between = shown[word.end : candidate.start] if candidate.start - word.end <= _AHEAD_CHARS else None
        if between is None or between.count("\n\n\n") > 1:
            return 0.0
        near = len(between) <= _NEAR_CHARS and _BETWEEN_NEAR.fullmatch(between) is not None
        score = word.worth - 0.25 * len(between) / _AHEAD_CHARS
    elif candidate.end <= word.start and word.start - candidate.end <= _BEHIND_CHARS:
        between = shown[candidate.end : word.start]
        near = False
        score = word.worth - 0.1 - 0.3 * len(between) / _BEHIND_CHARS
        if _SENTENCE_END.search(between):
            score -= 0.3
    else:
        return 0.0
    if near:
        score += 0.2
    elif _stands_alone(shown, candidate):
        score += 0.15
    elif candidate.worth < _UNSURE or (word.worth < _STRONG and not _IN_SENTENCE.fullmatch(between)):
        return 0.0  # only its place could make it a code
    elif _SENTENCE_END.search(between):
        score -= 0.35
    return score


def _adjoins(shown: str, candidate: _Candidate, word: _Announcement) -> bool:
    """Whether only blanks, quotes and the like stand between: `enter 482913`, `482913 - use it to`."""
    at, end = (word.end, candidate.start) if word.beside == "before" else (candidate.end, word.start)
    return at <= end and _ADJOINS.fullmatch(shown, at, end) is not None


def _is_phone(shown: str, candidate: _Candidate) -> bool:
    """Whether a number that somebody is to use may be one to call."""
    after = shown[candidate.end : candidate.end + 24].lstrip(" ,-").lower()
    many = candidate.text.isdecimal() and len(candidate.text) >= _PHONE_DIGITS_MIN
    return many or after.startswith(TO_CONTACT)


def _stands_alone(shown: str, candidate: _Candidate) -> bool:
    before = shown[: candidate.start].rpartition("\n")[2]
    after = shown[candidate.end :].partition("\n")[0]
    return not before.strip(" *\"'[(>|") and not after.strip(" *\"'])|.")


def _is_else(shown: str, lower: str, candidate: _Candidate) -> bool:
    """Whether what stands directly before or after says that this is another number."""
    before = lower[max(0, candidate.start - 40) : candidate.start].rpartition("\n\n")[2]
    after = lower[candidate.end : candidate.end + 14].lstrip(" ")
    if _MONEY_BEFORE.search(before):
        return True
    if shown[candidate.start] in "+#" or before.endswith(("#", "№")) or _after_is_unit(after):
        return True
    if before.endswith(("*", "•", "…")) and not after.startswith("*"):
        return True  # the end of a card's number
    label = _LABEL_END.sub("", before)
    if _LAST_DIGITS.search(label):
        return True
    for ending in {before.rstrip(" :#(№.-"), label.rstrip(" :#(№.-")}:
        for word in LABELS if ending.endswith(LABELS) else ():
            if ending.endswith(word):
                start = len(ending) - len(word)
                if _wide(word[0]) or not ending[max(0, start - 1) : start].isalpha():
                    return True
    return False


def _after_is_unit(after: str) -> bool:
    for unit in UNITS if after.startswith(UNITS) else ():
        if after.startswith(unit):
            rest = after[len(unit) : len(unit) + 1]
            if _wide(unit[0]) or not unit[-1].isalpha() or not rest.isalpha():
                return True
    return False
