"""Whether a number is something other than a code, by what stands directly before and after it. Pure."""

import re

from huahuo.mailcheck.codes.announcing import STRONG_WORTH, ends_with_last_digits
from huahuo.mailcheck.codes.candidates import Candidate
from huahuo.mailcheck.codes.else_words import LABELS, UNITS
from huahuo.mailcheck.codes.names import Announcement, is_wide

_LABEL_CHARS = 40
_MONEY_BEFORE = re.compile(r"[$€£¥₽₩]\s?$|(?:usd|eur|rmb|cny|gbp|rub|us\$|nt\$)\s?$")
_LABEL_END = re.compile(r"(?:[\s:#№(\[\"'.=*-]|(?<![a-z])(?:is|ist|est|es|number|no|nr|id)|为|是|は)*$")
_NUMBER_OF = re.compile(
    r"((?:[号號]|番号|(?<!비밀)번호|nummer|nr|(?<![a-z])id|номер[а-я]{0,2}|\bn[úu]mero|\bnúm|\bnuméro|\bn°|\bnumber|\bno))"
    r"[\s.:#(\[\"'=-]{0,4}$"
)
"""A number of a kind: no code, unless it is the very word that announces one."""
_UNIT = re.compile(
    "|".join(
        re.escape(unit) + ("" if is_wide(unit[0]) or not unit[-1].isalpha() else r"(?![^\W\d_])")
        for unit in UNITS
    )
)
_FOR = re.compile(r"\s(?:for|für|pour|para|для)\s(?:\w+\s){0,2}\w+:\s*")
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
    before = lower[begin : candidate.start].rpartition("\n\n")[2]
    after = lower[candidate.end : candidate.end + 14].lstrip(" ")
    if _MONEY_BEFORE.search(before):
        return True
    if shown[candidate.start] in "+#" or before.endswith(("#", "№")) or _UNIT.match(after):
        return True
    if shown.startswith("#", candidate.end):
        return True  # keys of a telephone
    if before.endswith(("*", "•", "…")) and not after.startswith("*"):
        return True  # the end of a card's number
    if word and ahead and word.worth >= STRONG_WORTH and _FOR.fullmatch(lower, word.end, candidate.start):
        return False  # `the code for your order: 482913`
    label = _LABEL_END.sub("", before)
    if ends_with_last_digits(label, len(label)):
        return True
    if word and ahead and word.kind == "enter" and CLAUSE.fullmatch(lower, word.end, candidate.start):
        return False
    number_of = _NUMBER_OF.search(before)
    if number_of:
        end = candidate.start - len(before) + number_of.end(1)
        if not any(one.start < end <= one.end for one in announced):
            return True
    return any(_is_label(text.rstrip(" :#(№.-")) for text in {before, label})


def is_measured(before: str, after: str) -> bool:
    """Whether it is an amount, by the text directly before and after it."""
    return _MONEY_BEFORE.search(before) is not None or _UNIT.match(after.lstrip(" ")) is not None


def is_number_of(lines: str) -> bool:
    """Whether the text before a number, with its line breaks, ends with `number` in some language."""
    return _NUMBER_OF.search(lines[-_LABEL_CHARS:]) is not None


def _is_label(ending: str) -> bool:
    for label in LABELS if ending.endswith(LABELS) else ():
        if ending.endswith(label):
            start = len(ending) - len(label)
            if is_wide(label[0]) or not ending[max(0, start - 1) : start].isalpha():
                return True
    return False
