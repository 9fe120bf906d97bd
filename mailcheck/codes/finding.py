"""The verification code of a mail, and how sure that is. Pure; bounded by `plain.TEXT_CHARS_MAX`.

What could be a code by its form (`candidates`) is judged by what announces one near it (`announcing`), by
its place, and by what stands directly before and after it. The best is the code if it reaches
`CONFIDENCE_MIN`. Where none does, all that a mail shows is weighed (`evidence`).

What speaks for a number of a mail to be its code and what against it, weighed. Pure and bounded.

The rules of `finding` believe what names a code. This is for mails that name none, or in words that no list
has: here nothing decides alone. `weights` says how much each piece of evidence counts.
"""

import math
import re
from collections.abc import Iterator
from itertools import islice

import msgspec

from huahuo.mailcheck.codes.announcing import STRONG_WORTH, WEAK_WORTH, Announced, announced, mentions, named
from huahuo.mailcheck.codes.candidates import (
    CLAUSE,
    UNSURE,
    Candidate,
    candidates,
    is_else,
    is_firm,
    is_like_a_word,
    is_long,
    is_measured,
    is_number_of,
    is_of_thing,
    is_ticket,
    stands_alone,
)
from huahuo.mailcheck.codes.weights import WEIGHTS
from huahuo.mailcheck.codes.words import (
    AGREE,
    FILLERS,
    IS,
    LEADS,
    OFFER,
    ON_SCREEN,
    POSTAL,
    SOON,
    WITH,
    WON,
    WORDS,
    Announcement,
    folded,
    has_wide,
    own_words,
    plain,
    tokens_of,
)
from huahuo.mailcheck.mime.shown import shown_text

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
_LISTS = {name: WORDS[name] for name in ("tells", "ends", "yours", "deals", "paid", "screen")} | {
    "signing in": WORDS["sign_in"],
    "elsewhere": (*WORDS["elsewhere"], *WORDS["journeys"]),
}
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
    lower = mail.lower[:CHARS_MAX]
    is_elsewhere = mentions(lower, WORDS["elsewhere"], wide=has_wide(lower))
    for candidate in mail.numbers:
        own = dict.fromkeys(_form(candidate, bold), 1.0)
        own |= dict.fromkeys(_place(mail, candidate), 1.0)
        if is_ticket(candidate) or is_long(candidate) or (is_elsewhere and candidate.text in others):
            continue
        if is_like_a_word(candidate) and OFFER.search(lower):
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
    if mentions(f"{asked}|{near}", WORDS["asks"], wide=wide):
        yield "asked beside"
    elif not alone and mentions(f"{before}|{after}", WORDS["asks"], wide=wide):
        yield "asked on the line"
    if not alone and mentions(_adjoining(before, after), WORDS["asks"], wide=wide):
        yield "asked directly"
    if mentions(f"{lines if alone else before}|{after}", WORDS["screen"], wide=wide):
        yield "screen beside"
    if is_measured(before, after):
        yield "measured"
    if mentions(f"{before}|{near}", WORDS["weak"], wide=wide):
        yield "word beside"
    if _LISTED.match(mail.shown, candidate.end):
        yield "listed"
    if POSTAL.search(before[-_NEAR_CHARS:] + near):
        yield "postal"


CONFIDENCE_MIN = 0.5
LIKELY_MIN = 0.52
"""Least probability of a number that no rule takes for the code."""
_AHEAD_CHARS = 160
"""How far after its announcement a code may stand."""
_BEHIND_CHARS = 60
"""How far before it: `482913 is your code`."""
_NEAR_ORDER_CHARS = 24
_PHONE_DIGITS_MIN = 8
"""A number with this many digits may be a phone number, so `use` before it does not make it a code."""
_SENTENCE_END = re.compile(r"[.!?;]\s(?![a-zß-ÿа-я])")
_IN_SENTENCE = re.compile(r"(?:[^.,!?;\n]|[.,!?;](?!\s)){0,48}")
_FILLERS = re.compile(FILLERS)
_ON_SCREEN = re.compile(ON_SCREEN + r"[\"'(]?")
_WORDS = re.compile(r"\s(?:[^\W\d_]+\s){1,7}")
_ADJOINS_AFTER = re.compile(r"[^\w.!?]{0,6}")
_THEN = re.compile(r"\s?[-,:(]\s?(?:please |bitte |por favor )?")
"""`482913 - enter it`."""
_CLAUSE_CHARS = 48
_LEADS = re.compile(LEADS)
_COPULAS = "|".join(sorted(WORDS["is"], key=len, reverse=True))
_BETWEEN_NEAR = re.compile(
    r"\W*(?:(?:it|they|er|sie) (?=is|are|lautet|lauten)|ce sont|c['’]est|это|"
    rf"is|ist|lautet|lauten|est|es|son|are|为|是|は|는|은|이|{_COPULAS}|:|-|=|\s)*\W*",
    re.IGNORECASE,
)

_SAYS = re.compile(
    rf"\s(?:[^\W\d_]+[\s'’]){{1,6}}(?:is|ist|lautet|est|es|are|будет|{_COPULAS})[\s:]{{1,3}}[\"'\[(]?",
    re.IGNORECASE,
)
"""`the password of your mailbox is`."""
_IS_YOUR = re.compile(
    rf"[^\w\n]{{0,4}}(?:is|ist|est|es|は|が|是|为|은|는|이|{_COPULAS})[^\w\n]{{0,2}}"
    r"(?:your|ihr|dein|votre|ton|tu|su|ваш|あなたの|お客様の|今回の|您的|本次的|회원님의)?[^\w\n]{0,2}",
    re.IGNORECASE,
)
"""`482913 is your`."""
_MIXED_WORTH = -0.25
"""What a word of small and capital letters with digits is worth."""
_GROUPS = re.compile(r"[0-9]{3}[ -][0-9]{3}|[0-9]{2}([ -])[0-9]{2}\1[0-9]{2}")
_SHORT_DATE = re.compile(
    r"(?:[0-2][0-9]|3[01])-(?:0[0-9]|1[0-2])-[0-9]{2}|[0-9]{2}-(?:0[0-9]|1[0-2])-[0-3][0-9]"
)
_SURE = 1.0
_ONLY = 0.55
_ONLY_CHARS_MAX = (9, 6)
"""How long the only number of a mail may be: of letters and digits, and of digits."""
_APART = re.compile(r"[^\S\n]*(?:[\])\"'|-]|\.(?!\d)|,\s|\n|$)")
_APART_BEFORE = re.compile(r"(?:[:\n([\"'|\]>→⇒▶]|\s-)\s*$")


class Code(msgspec.Struct, frozen=True, gc=False):
    """A code as a user types it: without the blanks and dashes between digits. `confidence` is 0.5 to 1."""

    text: str
    confidence: float


def find_code(subject: str, text: str) -> Code | None:
    """The code of a mail, None if there seems to be none."""
    mail, found = _by_rules(subject, text)
    return found or _weighed(mail, frozenset())


def code_of(subject: str, text: str, markup: str) -> Code | None:
    """The code of a mail by its plain part, else by its HTML: some plain parts only say "see the HTML".

    What the mail quotes of an earlier one is searched only if the rest has no code.
    """
    shown = shown_text(markup)
    own = own_words(text), own_words(shown)
    bold = emphasised(markup)
    if own == (text, shown):
        return _of_parts(subject, text, shown, bold)
    return _of_parts(subject, *own, bold) or _of_parts(subject, text, shown, bold)


def _of_parts(subject: str, text: str, shown: str, bold: frozenset[str]) -> Code | None:
    mail, found = _by_rules(subject, text) if text.strip() or not shown.strip() else (None, None)
    if not found and shown.strip():
        as_shown, found = _by_rules(subject, shown)
        found = found or _weighed(as_shown, bold)
    return found or _weighed(mail, frozenset())


def _by_rules(subject: str, text: str) -> tuple[Mail | None, Code | None]:
    """The mail, None if it has no number, and its code if it is announced."""
    head = plain(subject)
    shown = head + "\n" + plain(text)
    numbers = [one for one in candidates(shown) if not _is_title(head, one)]
    lower = folded(shown)
    if not numbers or mentions(lower[: len(head)], WORDS["fraud"], wide=True):
        return None, None
    tokens = tokens_of(lower)
    names = named(lower, tokens)
    if names:  # most mails with a code say its name directly before it, and need no second look
        best, score, _ = _best(head, shown, lower, numbers, Announced(names))
        if best is not None and score >= _SURE:
            return None, Code(best.text, 1.0)
    said = announced(lower, tokens, names)
    best, score, others = _best(head, shown, lower, numbers, said)
    if best is None and said.unnamed != "none":
        best, score = _only(shown, others, said), _ONLY
    mail = Mail(len(head), shown, lower, numbers, said)
    return mail, None if best is None else Code(best.text, round(min(score, 1.0), 2))


def _is_title(head: str, candidate: Candidate) -> bool:
    """Whether it is a word with digits that is the whole subject: `iPhone17`."""
    return (
        not candidate.text.isdecimal()
        and candidate.end - candidate.start >= len(head.strip())
        and candidate.end <= len(head)
    )


def _weighed(mail: Mail | None, bold: frozenset[str]) -> Code | None:
    """The number that all that a mail shows speaks for, where no rule found one."""
    found = None if mail is None else weighed(mail, ruled(mail), bold)
    if found is None or found[1] < LIKELY_MIN:
        return None
    return Code(found[0].text, round(CONFIDENCE_MIN + (found[1] - LIKELY_MIN) / 2, 2))


def mail_of(subject: str, text: str) -> Mail | None:
    """A mail as it is weighed; None if it has no number."""
    head = plain(subject)
    shown = head + "\n" + plain(text)
    numbers, lower = candidates(shown), folded(shown)
    tokens = tokens_of(lower)
    said = announced(lower, tokens, named(lower, tokens))
    return Mail(len(head), shown, lower, numbers, said) if numbers else None


def ruled(mail: Mail) -> dict[int, float]:
    """How likely each number of a mail with few is by what announces it, by where it starts."""
    if len(mail.numbers) > NUMBERS_MAX:
        return {}
    return {
        number.start: max(
            (_score(mail.shown, mail.lower, number, one) for one in mail.said.found), default=0.0
        )
        for number in mail.numbers
    }


def _best(
    head: str, shown: str, lower: str, numbers: list[Candidate], said: Announced
) -> tuple[Candidate | None, float, list[Candidate]]:
    """The likeliest number, how likely it is, and all that are nowhere in the mail something else."""
    best, best_score, best_word, others = None, CONFIDENCE_MIN, None, []
    of_else: set[str] = set()
    for candidate in numbers:
        score, word = 0.0, None
        for one in said.found:
            if one.worth < STRONG_WORTH and said.unnamed == "firm" and not is_firm(candidate):
                continue
            found = _score(shown, lower, candidate, one)
            if found > score:
                score, word = found, one
        score = max(score + candidate.worth, _leading(head, lower, candidate, said))
        if score <= best_score and candidate.worth < UNSURE:
            continue
        if is_else(shown, lower, candidate, word, said.found) or _is_of_offer(lower, candidate, word):
            of_else.add(candidate.text)
            continue
        if candidate.worth >= UNSURE:
            others.append(candidate)
        if score > best_score:
            best, best_score, best_word = candidate, score, word
    if best is not None and best.text in of_else and (best_word is None or best_word.worth < STRONG_WORTH):
        best = None  # it has another name elsewhere in the mail: `ticket 482913 … enter 482913`
    return best, best_score, [one for one in others if one.text not in of_else]


def _is_of_offer(lower: str, candidate: Candidate, word: Announcement | None) -> bool:
    """Whether it is made like the code of a voucher, in a mail about things to be had, and a mere code."""
    is_strong = word is not None and word.worth >= STRONG_WORTH
    return not is_strong and is_like_a_word(candidate) and OFFER.search(lower[:CHARS_MAX]) is not None


def _only(shown: str, numbers: list[Candidate], said: Announced) -> Candidate | None:
    """The number of a mail that has one number, if it stands by itself."""
    if len({number.text for number in numbers}) > 1:  # there are others, in an address or a footer
        of_any = said.unnamed == "all"
        numbers = [one for one in numbers if (of_any or is_firm(one)) and stands_alone(shown, one)]
    one = numbers[0] if len({number.text for number in numbers}) == 1 else None
    if one is None or len(one.text) > _ONLY_CHARS_MAX[one.text.isdecimal()]:
        return None
    if one.spelled:
        return one
    grouped = _GROUPS.fullmatch(shown, one.start, one.end) is not None
    if said.unnamed == "firm":
        shown_as_one = grouped or not one.text.isdecimal()
        return one if shown_as_one and is_firm(one) and stands_alone(shown, one) else None
    if grouped and not _SHORT_DATE.fullmatch(shown, one.start, one.end):
        return one
    apart = _APART_BEFORE.search(shown, max(0, one.start - 4), one.start) and _APART.match(shown, one.end)
    return one if stands_alone(shown, one) or apart else None


def _leading(head: str, lower: str, candidate: Candidate, said: Announced) -> float:
    """How likely the number with which the subject begins is what the mail is about."""
    first = candidate.end <= len(head) and not head[: candidate.start].strip(" [(<\"'")
    if not first or said.unnamed == "none" or not _LEADS.match(lower, candidate.end):
        return 0.0
    return WEAK_WORTH + candidate.worth


def _score(shown: str, lower: str, candidate: Candidate, word: Announcement) -> float:
    """How likely `word` announces this candidate."""
    if word.kind not in ("near", "close"):
        return _ordered(shown, lower, candidate, word)
    if is_of_thing(shown, lower, word):
        return 0.0
    if word.end <= candidate.start:
        between = shown[word.end : candidate.start] if candidate.start - word.end <= _AHEAD_CHARS else None
        if between is None or between.count("\n\n\n") > 1:
            return 0.0
        near = len(between) <= _NEAR_ORDER_CHARS and _BETWEEN_NEAR.fullmatch(between) is not None
        near = near or (word.worth >= STRONG_WORTH and _SAYS.fullmatch(between) is not None)
        score = word.worth - 0.25 * len(between) / _AHEAD_CHARS
    elif candidate.end <= word.start and word.start - candidate.end <= _BEHIND_CHARS:
        between = shown[candidate.end : word.start]
        near = _IS_YOUR.fullmatch(between) is not None
        score = word.worth - 0.1 - 0.3 * len(between) / _BEHIND_CHARS
        if _SENTENCE_END.search(between):
            score -= 0.3
    else:
        return 0.0
    if near:
        score += 0.2
    elif word.kind == "close":
        return 0.0
    elif stands_alone(shown, candidate):
        score += 0.15
    elif candidate.worth < UNSURE or (word.worth < STRONG_WORTH and not _IN_SENTENCE.fullmatch(between)):
        return 0.0  # only its place could make it a code
    elif _SENTENCE_END.search(between):
        score -= 0.35
    return score


def _ordered(shown: str, lower: str, candidate: Candidate, order: Announcement) -> float:
    """`enter 482913`, `482913 - use it to`, `enter these` with the number alone on a line below."""
    if _is_phone(shown, candidate, order):
        return 0.0
    if order.kind == "after":
        beside = candidate.end <= order.start and _ADJOINS_AFTER.fullmatch(shown, candidate.end, order.start)
        if not beside or candidate.worth < _MIXED_WORTH:
            return 0.0
        return order.worth + (0.1 if candidate.worth < UNSURE else 0.0)
    distance = candidate.start - order.end
    if order.kind == "enter" and _THEN.fullmatch(shown, candidate.end, order.start):
        return order.worth if candidate.worth >= UNSURE else 0.0
    if not 0 <= distance <= _AHEAD_CHARS:
        return 0.0
    if distance <= _NEAR_ORDER_CHARS and _FILLERS.fullmatch(lower, order.end, candidate.start):
        return order.worth if candidate.worth >= UNSURE else 0.0
    if order.kind == "use":
        return 0.0
    between = lower[order.end : candidate.start]
    by_words = is_firm(candidate) or mentions(between, WORDS["screen"], wide=has_wide(between))
    forms = (_ON_SCREEN, _WORDS if by_words else CLAUSE)
    if distance <= _CLAUSE_CHARS and any(form.fullmatch(lower, order.end, candidate.start) for form in forms):
        return order.worth
    if stands_alone(shown, candidate):
        return order.worth + 0.15 - 0.25 * distance / _AHEAD_CHARS
    return 0.0


def _is_phone(shown: str, candidate: Candidate, order: Announcement) -> bool:
    """Whether a number that somebody is to use may be one to call. What is entered is none."""
    after = shown[candidate.end : candidate.end + 24].lstrip(" ,-").lower()
    many = shown[candidate.start : candidate.end].isdecimal() and len(candidate.text) >= _PHONE_DIGITS_MIN
    of_use = order.kind == "use" and many
    return (of_use and not stands_alone(shown, candidate)) or after.startswith(WORDS["to_contact"])
