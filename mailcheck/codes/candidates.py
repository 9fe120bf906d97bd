"""What in a mail could be a code by its form: numbers, and words of letters and digits. Pure.

Whether a number is something other than a code, by what stands directly before and after it. Pure.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from huahuo.mailcheck.codes.announcing import STRONG_WORTH, ends_with_last_digits, is_of_sender, mentions
from huahuo.mailcheck.codes.words import WORDS, Announcement, is_wide, simple

_DIGITS_MIN, _DIGITS_MAX, _DIGITS_LONG_MAX = 4, 8, 10
"""Longer than usual: only a name that is a code's alone, directly before it, makes it one."""
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
_VOUCHER = re.compile(r"[A-Z]{4,}[0-9]{1,4}|[A-Z]{3}20[0-9]{2}")
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
            long = _PHRASE_WORTH if len(code) > _DIGITS_MAX else 0.0
            worth = alone + grouped + year + postcode + long
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
    most = _DIGITS_LONG_MAX if digits == run else _DIGITS_MAX
    if not _DIGITS_MIN <= len(digits) <= most or not digits.isdecimal():
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


def is_long(candidate: Candidate) -> bool:
    """Whether it has more digits than usual: only its name makes it a code."""
    return candidate.text.isdecimal() and len(candidate.text) > _DIGITS_MAX


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


_LABELS = frozenset(WORDS["labels"])
_NOUNS = ("code", "pin", "コード", "码", "코드", "код", "кода", "código")
_COMPOUNDS = frozenset(f"{kind}code" for kind in WORDS["kinds"])
_LAST_WORD = re.compile(r"[^\W\d_]+$")
_OF_THING = re.compile(r"(?:\b(?i:your|the|this|our|an?|its) |[,;(] ?)(?P<thing>[a-z]{3,20}) $")
"""Before `code`: `your payee code`, `, job code`. A name with a capital letter is that of a sender."""
_LABEL_CHARS = 40
_MONEY_BEFORE = re.compile(r"[$€£¥₽₩]\s?$|(?:usd|eur|rmb|cny|gbp|rub|us\$|nt\$)\s?$")
_LABEL_END = re.compile(
    r"(?:[\s:#№(\[\"'.=*-]|(?<![a-z])(?:is|ist|est|es|le|el|la|die|der|number|no|nr|id)|为|是|は)*$"
)
_LINE_ABOVE = re.compile(r"(?:[^\W\d_]+[^\w\n]+){2}[^\W\d_]+ ?\n\W*$")
"""A line of some words ends above the number, not with a colon: its last word is no label of the number."""
_CELL_ABOVE = re.compile(r"(?:^|\n) ?(?P<label>[^\n]{2,32}?)[ .:#№]{0,3}\n\s*\n\s*$")
"""The cell of a table before that of a number."""
_IN_BRACKETS = re.compile(r"\s?\([^()\n0-9]{2,16}\)[\s:#]*$")
"""`reference (PNR): `: what a number is called stands before."""
_NUMBER_OF = re.compile(
    r"((?:[号號]|番号|(?<!비밀)번호|nummer|nr|(?<![a-z])id|номер[а-я]{0,2}|\bn[úu]mero|\bnúm|\bnuméro|\bn°|\bnumber|\bno|hotline|helpline))"
    r"[\s.:#(\[\"'=-]{0,4}$"
)
"""A number of a kind: no code, unless it is the very word that announces one."""
_UNIT = re.compile(
    "|".join(
        re.escape(unit) + ("" if is_wide(unit[0]) or not unit[-1].isalpha() else r"(?![^\W\d_])")
        for unit in WORDS["units"]
    )
)
_FORMER = re.compile(
    simple(
        r"(?:\b(?:previous|earlier|old|former|alte[rn]?|vorherige[rn]?|frühere[rn]?|ancien|"
        r"précédent)\s(?:[^\W\d_]+[\s-]){0,2}(?:code|pin|password|passwort|kennwort|codes|mot de passe)"
        r"|\b(?:código|code|clave|contraseña)\s(?:anterior|précédent)"
        r"|(?:предыдущий|прежний|старый|предыдущего)\s(?:[^\W\d_]+\s)?(?:код|пароль|кода)"
        r"|(?:之前|上一个|上次|原来|旧|以前)(?:的|の)?[^\d\n]{0,8}(?:码|密码|コード|番号)"
        r"|이전 ?(?:인증 ?)?(?:코드|번호))[\s:은는이가は是为]{0,3}$"
    )
)
"""Before a number: the code that this mail takes the place of."""
_BY_PHONE = re.compile(
    r"(?:\bam telefon|\bon the (?:tele)?phone|\bby (?:tele)?phone|\bover the (?:tele)?phone|"
    r"\b(?:au|par) téléphone|\bpor teléfono|\bпо телефону)\W*$"
)
"""Before a number that somebody is told to say."""
_EXAMPLES = {
    wide: "|".join(re.escape(one) for one in WORDS["example"] if is_wide(one[0]) is wide)
    for wide in (False, True)
}
_EXAMPLE = re.compile(
    rf"(?<![^\W\d_])(?:{_EXAMPLES[False]})[^\w\n]{{0,6}}$|(?:{_EXAMPLES[True]})[^0-9\n.!?]{{0,16}}$"
)
_EXAMPLE_AFTER = re.compile(
    r"[^\w\n.!?]{0,4}(?:のような|といった|[과와]? ?같은|जैस[ेाी]|gibi(?![^\W\d_])|这样的|这类|之类)"
)
_EXAMPLE_CHARS = 32
_WARNING_CHARS = 8 * 1024
_MASKED = re.compile(r"(?:[*•…]|(?:[*•]{2,}|…) )$")
_MASKED_ON = re.compile(r" ?[*•]{2,}[ *•]{0,8}[0-9]")
"""After a number: it goes on behind what is hidden."""
_CALLED = re.compile(
    simple(
        r"\s?(?:으?로|에)\s?(?:전화|연락|문의)|\s?(?:へ|に|まで|までに)(?:ご|お)?(?:電話|連絡)|\s?anrufen\b"
    )
)
"""After a number that is to be called."""
_OVER = re.compile(
    simple(
        r"\W{0,3}(?:(?:has |is |already |now )*(?:expired|no longer valid|invalid|not valid)|"
        r"ist (?:abgelaufen|ungültig|nicht mehr gültig)|a expiré|n['’]est plus val(?:able|ide)|ha caducado|"
        r"ya no es válido|ya no sirve|больше не действ|истёк|истек|недействителен|"
        r"[^\d\n,.]{0,2}(?:已过期|已失效|过期了|失效了)|"
        r"[はが]?(?:無効|期限切れ)|[은는이]? ?(?:만료|무효))"
    )
)
"""After a number: it was a code."""
_FOR = re.compile(
    r"\s(?:for|für|pour|para|для)\s(?:\w+\s){0,2}\w+:\s*"
    r"|\s(?:to|um|zum|zur|pour|para|для|чтобы)\s(?:[^\W\d_]+[ '’-]){0,8}[^\W\d_]+ ?:\s*"
)
"""Between a name and its number: `for your order: `, `to log in: `."""
CLAUSE = re.compile(
    r"\s(?:[^\W\d_]+\s){0,6}(?:number|digits|pin|ziffern|nummer|zahl|chiffres|numéro|número|cifras|clave|число|"
    r"номер|цифры)\s"
)
"""`enter on your telephone the number 482913`."""


def is_else(
    shown: str, lower: str, candidate: Candidate, word: Announcement | None, announced: list[Announcement]
) -> bool:
    """Whether what stands directly before or after says that this is another number."""
    ahead = word is not None and word.end <= candidate.start
    begin = max(
        candidate.start - _LABEL_CHARS, word.end if word and ahead and word.kind in ("enter", "use") else 0, 0
    )
    cell = _CELL_ABOVE.search(lower, max(0, candidate.start - _LABEL_CHARS), candidate.start)
    above = cell["label"] if cell is not None and (word is None or word.worth < STRONG_WORTH) else ""
    if above in _LABELS or _is_of_other_kind(above):
        return True
    before = lower[begin : candidate.start].rpartition("\n\n")[2]
    after = lower[candidate.end : candidate.end + 14].lstrip(" ")
    if _MONEY_BEFORE.search(before) or _is_example(lower, candidate):
        return True
    if shown[candidate.start] in "+#" or before.endswith(("#", "№")) or _UNIT.match(after):
        return True
    if shown.startswith("#", candidate.end):
        return True  # keys of a telephone
    if _MASKED.search(before) and not after.lstrip(" ").startswith("*"):
        return True  # the end of a card's or a phone's number
    if _CALLED.match(lower, candidate.end) or _MASKED_ON.match(lower, candidate.end):
        return True
    if word and ahead and word.worth >= STRONG_WORTH and _FOR.fullmatch(lower, word.end, candidate.start):
        return False  # `the code for your order: 482913`
    if announced and (_FORMER.search(before) or _OVER.match(lower, candidate.end)):
        return True
    if word and word.kind != "near" and _BY_PHONE.search(before):
        return False
    label = _LABEL_END.sub("", before)
    if ends_with_last_digits(label, len(label)):
        return True
    if word and ahead and word.kind == "enter" and CLAUSE.fullmatch(lower, word.end, candidate.start):
        return False
    number_of = _NUMBER_OF.search(before)
    if number_of:
        end = candidate.start - len(before) + number_of.end(1)
        return not any(one.start < end <= one.end for one in announced)
    if _LINE_ABOVE.search(before):
        return False
    ends = {text.rstrip(" :#(№.-\"'") for text in (before, label)}
    aside = _IN_BRACKETS.search(before)
    if aside:
        of = candidate.start - len(before)
        if not any(of + aside.start() < one.end <= of + aside.end() for one in announced):
            ends.add(before[: aside.start()])
    start = candidate.start - len(before)
    adjoins = (
        word is not None
        and word.kind == "near"
        and ahead
        and not lower[word.end : candidate.start].strip(" :#№.-\"'(")
    )
    named_chars = word.end - word.start if word is not None and adjoins else 0
    return any(
        _is_label(text, named_chars)
        or _is_of_other_kind(text)
        or (text.endswith("code") and _is_called(shown, start + len(text) - len("code")))
        for text in ends
    )


def _is_example(lower: str, candidate: Candidate) -> bool:
    """Whether it only shows what a code looks like: `a code such as 123456`."""
    begin = max(0, candidate.start - _EXAMPLE_CHARS)
    if _EXAMPLE.search(lower, begin, candidate.start) or _EXAMPLE_AFTER.match(lower, candidate.end):
        return True
    return "123456789".startswith(candidate.text) and mentions(
        lower[:_WARNING_CHARS], WORDS["fraud"], wide=True
    )


def is_of_thing(shown: str, lower: str, word: Announcement) -> bool:
    """Whether a weak name is that of another thing's code: `your payee code`."""
    if word.worth >= STRONG_WORTH or not lower.startswith("code", word.start):
        return False
    return _is_called(shown, word.start)


def _is_called(shown: str, code: int) -> bool:
    """Whether the word `code` that stands there is that of a thing."""
    before = _OF_THING.search(shown, max(0, code - _LABEL_CHARS), code)
    return before is not None and before["thing"] not in WORDS["purposes"]


def is_measured(before: str, after: str) -> bool:
    """Whether it is an amount, by the text directly before and after it."""
    return _MONEY_BEFORE.search(before) is not None or _UNIT.match(after.lstrip(" ")) is not None


def is_number_of(lines: str) -> bool:
    """Whether the text before a number, with its line breaks, ends with `number` in some language."""
    return _NUMBER_OF.search(lines[-_LABEL_CHARS:]) is not None


def _is_of_other_kind(ending: str) -> bool:
    """Whether it ends with the name of a code of another kind: `referral code`, `código de invitación`."""
    for word in _NOUNS if ending.endswith(_NOUNS) else ():
        if ending.endswith(word):
            last = _LAST_WORD.search(ending, max(0, len(ending) - _LABEL_CHARS))
            of_kind = last is not None and last[0] in _COMPOUNDS
            kind = ending.removesuffix(word)
            return of_kind or (
                kind.rstrip(" -_'\"").endswith(WORDS["not_before"]) and not is_of_sender(kind, len(kind))
            )
    for said in WORDS["not_after"] if ending.endswith(WORDS["not_after"]) else ():
        if ending.endswith(said) and ending.removesuffix(said).rstrip().endswith(_NOUNS):
            return True
    return False


def _is_label(ending: str, named_chars: int) -> bool:
    """Whether it ends with what another number is called, and not only with a part of the name of a code."""
    for label in WORDS["labels"] if ending.endswith(WORDS["labels"]) else ():
        if ending.endswith(label) and len(label) > named_chars:
            start = len(ending) - len(label)
            if is_wide(label[0]) or not ending[max(0, start - 1) : start].isalpha():
                return True
    return False
