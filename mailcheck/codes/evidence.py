"""What speaks for a number of a mail to be its code and what against it, weighed. Pure and bounded.

The rules of `finding` believe what names a code. This is for mails that name none, or in words that no list
has: here nothing decides alone. `weights` says how much each piece of evidence counts.
"""

import math
import re
from collections.abc import Iterator
from itertools import islice

import msgspec

from huahuo.mailcheck.codes.announcing import Announced, mentions
from huahuo.mailcheck.codes.candidates import (
    UNSURE,
    Candidate,
    is_firm,
    is_like_a_word,
    is_ticket,
    stands_alone,
)
from huahuo.mailcheck.codes.names import has_wide
from huahuo.mailcheck.codes.others import is_else, is_measured, is_number_of
from huahuo.mailcheck.codes.weights import WEIGHTS
from huahuo.mailcheck.codes.words import (
    AGREE,
    ASKS,
    DEALS,
    ELSEWHERE,
    ENDS,
    IS,
    OFFER,
    PAID,
    POSTAL,
    SCREEN,
    SIGN_IN,
    SOON,
    TELLS,
    WEAK,
    WITH,
    WON,
    YOURS,
)

NUMBERS_MAX = 16
"""A mail with more numbers is weighed no further: a mail with a code has few."""
CHARS_MAX = 6 * 1024
"""How much of a mail is searched for words: a code stands near the beginning."""
_MARKUP_CHARS_MAX = 128 * 1024
_EMPHASISED_MAX = 64
_NEAR_CHARS, _LINE_CHARS, _LINES_CHARS = 24, 60, 80
_RUNS_MAX = 10
_WORDS_BESIDE, _WIDE_BESIDE = 2, 6
_LENGTH_UNIT_CHARS = 100

_LONG = re.compile(r"[0-9](?:[ -]?[0-9]){8,}")
_LISTS = {
    "tells": TELLS, "signing in": SIGN_IN, "ends": ENDS, "elsewhere": ELSEWHERE, "yours": YOURS,
    "deals": DEALS, "paid": PAID, "screen": SCREEN,
}  # fmt: skip
_PATTERNS = {"soon": SOON, "agree": AGREE, "long number": _LONG, "won": WON}
_SAID_MOST = sum(max(0.0, WEIGHTS.get(name, 0.0)) for name in (*_LISTS, *_PATTERNS, "subject names one"))
"""How much the words of a mail can speak for a number."""
_ABOUT_YOU = frozenset(("tells", "signing in", "ends", "agree", "soon", "yours", "subject names one"))
_OF_SIGNING_IN = frozenset(("tells", "signing in", "subject names one"))
_ASKED = frozenset(("asked beside", "asked on the line"))
_SHOWN = frozenset(("alone", "bold", "leads the subject"))
_RUN = re.compile(r"[0-9]+")
_LISTED = re.compile(r"[^\w\n]{0,2},")
_FOR_TYPING = re.compile(r"[^0-9A-Za-z]")
_TAG = re.compile(r"<(\w{1,10})\b([^<>]{0,600})>([^<>]{4,64})(?=<)")
"""With its name, its attributes and the text after it."""
_EMPHASES = frozenset(("b", "strong", "h1", "h2", "h3", "h4", "big", "em", "code", "kbd", "samp"))
_SHOWN_CHARS = range(4, 25)
_EMPHASIS = re.compile(
    r"font-size:\s?[2-9][0-9]|letter-spacing|font-weight:\s?(?:bold|[6-9]00)", re.IGNORECASE
)


class Mail(msgspec.Struct, frozen=True, gc=False):
    """A mail that is searched: its text as it is shown and folded, its numbers, what announces one."""

    head_chars: int
    shown: str
    lower: str
    numbers: list[Candidate]
    said: Announced


def emphasised(markup: str) -> frozenset[str]:
    """What HTML shows in bold, in large type, as a heading or with its letters apart: without blanks."""
    found = (
        tag[3]
        for tag in _TAG.finditer(markup[:_MARKUP_CHARS_MAX])
        if len(tag[3].strip()) in _SHOWN_CHARS
        and (tag[1].lower() in _EMPHASES or _EMPHASIS.search(tag[2]) is not None)
    )
    return frozenset(_FOR_TYPING.sub("", text) for text in islice(found, _EMPHASISED_MAX))


def weighed(mail: Mail, ruled: dict[int, float], bold: frozenset[str]) -> tuple[Candidate, float] | None:
    """The likeliest number and how likely it is, None if that is little.

    `ruled` has what the rules found, by where each number starts.
    """
    best: tuple[Candidate, float] | None = None
    for candidate, evidence in _own(mail, ruled, bold):
        own = _sum(evidence)
        if best is None or own > best[1]:
            best = candidate, own
    if best is None:
        return None
    sum_of = best[1] + _sum(_measures(mail))
    if sum_of + _SAID_MOST <= 0:
        return None
    return best[0], 1 / (1 + math.exp(-sum_of - _sum(_said(mail))))


def _is_shown_or_asked_for(mail: Mail, own: dict[str, float]) -> bool:
    """Whether a number that may be a year, an amount or a page could be a code.

    Many an ordinary mail has four digits inside a sentence.
    """
    if not _SHOWN.isdisjoint(own) or own.keys() >= {"after colon", "word beside"}:
        return True
    if "only" in own and "not about you" not in _said(mail):
        return True
    if "unsure" not in own and "screen beside" in own and not _ASKED.isdisjoint(own):
        return True
    if not own["rules"] and "asked beside" not in own:
        return False
    said = _said(mail)
    return "not about you" not in said if own["rules"] else not _OF_SIGNING_IN.isdisjoint(said)


def evidences(
    mail: Mail, ruled: dict[int, float], bold: frozenset[str]
) -> Iterator[tuple[Candidate, dict[str, float]]]:
    """Each number that could be the code, with the names of `WEIGHTS` for what it has, 1 for most."""
    about = _measures(mail) | _said(mail)
    for candidate, own in _own(mail, ruled, bold):
        yield candidate, about | own


def _sum(evidence: dict[str, float]) -> float:
    return math.fsum(WEIGHTS[name] * value for name, value in evidence.items())


def _own(
    mail: Mail, ruled: dict[int, float], bold: frozenset[str]
) -> Iterator[tuple[Candidate, dict[str, float]]]:
    """Each number that could be the code, with what it alone has."""
    if len(mail.numbers) > NUMBERS_MAX:
        return
    others = {one.text for one in mail.numbers if is_else(mail.shown, mail.lower, one, None, mail.said.found)}
    free = [one.text for one in mail.numbers if one.text not in others]
    for candidate in mail.numbers:
        own = dict.fromkeys(_form(candidate, bold), 1.0)
        own |= dict.fromkeys(_place(mail, candidate), 1.0)
        if is_ticket(candidate) or (is_like_a_word(candidate) and OFFER.search(mail.lower[:CHARS_MAX])):
            continue
        if candidate.text in others:
            own["something else"] = 1.0
        elif candidate.text == free[0]:
            own["first"] = 1.0
            if len(set(free)) == 1:
                own["only"] = 1.0
        own["rules"] = 0.0 if "something else" in own else ruled.get(candidate.start, 0.0)
        if is_firm(candidate) or _is_shown_or_asked_for(mail, own):
            yield candidate, own


def _measures(mail: Mail) -> dict[str, float]:
    """What is quickly seen of a mail."""
    lower = mail.lower[:CHARS_MAX]
    return {
        "always": 1.0,
        "question": float("?" in lower),
        "length": min(math.log(len(mail.shown) / _LENGTH_UNIT_CHARS + 0.1), 3.0),
        "runs": sum(1 for _ in islice(_RUN.finditer(lower), _RUNS_MAX)) / (_RUNS_MAX / 2),
    }


def _said(mail: Mail) -> dict[str, float]:
    """What the words of a mail say."""
    lower = mail.lower[:CHARS_MAX]
    wide = has_wide(lower)
    said = [name for name, words in _LISTS.items() if mentions(lower, words, wide=wide)]
    said += [name for name, pattern in _PATTERNS.items() if pattern.search(lower)]
    if any(one.kind == "near" and one.end <= mail.head_chars for one in mail.said.found):
        said.append("subject names one")
    if not _ABOUT_YOU.intersection(said):
        said.append("not about you")
    return dict.fromkeys(said, 1.0)


def _form(candidate: Candidate, bold: frozenset[str]) -> Iterator[str]:
    """What the number looks like."""
    if candidate.text.isdecimal():
        yield f"{len(candidate.text)} digits"
        if candidate.end - candidate.start != len(candidate.text):
            yield "grouped"
    elif candidate.worth >= UNSURE:
        yield "mixed"
    if candidate.worth < UNSURE:
        yield "unsure"
    if is_like_a_word(candidate):
        yield "like a word"
    if _FOR_TYPING.sub("", candidate.text) in bold:
        yield "bold"


def _adjoining(before: str, after: str) -> str:
    """The words next to a number; where words have no blanks between them, some characters."""
    words = [word[-_WIDE_BESIDE:] if has_wide(word) else word for word in before.split()[-_WORDS_BESIDE:]]
    words += [word[:_WIDE_BESIDE] if has_wide(word) else word for word in after.split()[:1]]
    return "|".join(words)


def _place(mail: Mail, candidate: Candidate) -> Iterator[str]:
    """What stands around the number."""
    lower = mail.lower
    begin = max(lower.rfind("\n", 0, candidate.start) + 1, candidate.start - _LINE_CHARS)
    before = lower[begin : candidate.start]
    after = lower[candidate.end : candidate.end + _LINE_CHARS].partition("\n")[0]
    alone = stands_alone(mail.shown, candidate)
    lines = lower[max(0, candidate.start - _LINES_CHARS) : candidate.start].rstrip()
    if alone:
        yield "alone"
    if candidate.end <= mail.head_chars and not mail.shown[: candidate.start].strip(" [("):
        yield "leads the subject"
    if lines.endswith((":", "->", "-")):
        yield "after colon"
    if is_number_of(lines):
        yield "number of"
    if IS.search(before):
        yield "is"
    if WITH.search(before):
        yield "with"
    asked = lines[-_LINE_CHARS:] if alone else before[-_NEAR_CHARS:]
    near, wide = after[:_NEAR_CHARS], has_wide(lines + after)
    if mentions(f"{asked}|{near}", ASKS, wide=wide):
        yield "asked beside"
    elif not alone and mentions(f"{before}|{after}", ASKS, wide=wide):
        yield "asked on the line"
    if not alone and mentions(_adjoining(before, after), ASKS, wide=wide):
        yield "asked directly"
    if mentions(f"{lines if alone else before}|{after}", SCREEN, wide=wide):
        yield "screen beside"
    if is_measured(before, after):
        yield "measured"
    if mentions(f"{before}|{near}", WEAK, wide=wide):
        yield "word beside"
    if _LISTED.match(mail.shown, candidate.end):
        yield "listed"
    if POSTAL.search(before[-_NEAR_CHARS:] + near):
        yield "postal"
