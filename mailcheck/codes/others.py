"""Whether a number is something other than a code, by what stands directly before and after it. Pure."""

import re

from huahuo.mailcheck.codes.announcing import STRONG_WORTH, ends_with_last_digits, is_of_sender, mentions
from huahuo.mailcheck.codes.candidates import Candidate
from huahuo.mailcheck.codes.names import Announcement, is_wide
from huahuo.mailcheck.codes.words import (
    EXAMPLE,
    FRAUD,
    KINDS,
    LABELS,
    NOT_AFTER,
    NOT_BEFORE,
    PURPOSES,
    UNITS,
    simple,
)

_LABELS = frozenset(LABELS)
_NOUNS = ("code", "コード", "码", "코드", "код", "кода", "código")
_COMPOUNDS = frozenset(f"{kind}code" for kind in KINDS)
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
        for unit in UNITS
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
_EXAMPLE = re.compile(
    rf"(?<![^\W\d_])(?:{'|'.join(re.escape(one) for one in EXAMPLE if not is_wide(one[0]))})[^\w\n]{{0,6}}$"
    rf"|(?:{'|'.join(one for one in EXAMPLE if is_wide(one[0]))})[^0-9\n.!?]{{0,16}}$"
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
    if cell is not None and cell["label"] in _LABELS and (word is None or word.worth < STRONG_WORTH):
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
    return any(
        _is_label(text)
        or _is_of_other_kind(text)
        or (text.endswith("code") and _is_called(shown, start + len(text) - len("code")))
        for text in ends
    )


def _is_example(lower: str, candidate: Candidate) -> bool:
    """Whether it only shows what a code looks like: `a code such as 123456`."""
    begin = max(0, candidate.start - _EXAMPLE_CHARS)
    if _EXAMPLE.search(lower, begin, candidate.start) or _EXAMPLE_AFTER.match(lower, candidate.end):
        return True
    return "123456789".startswith(candidate.text) and mentions(lower[:_WARNING_CHARS], FRAUD, wide=True)


def is_of_thing(shown: str, lower: str, word: Announcement) -> bool:
    """Whether a weak name is that of another thing's code: `your payee code`."""
    if word.worth >= STRONG_WORTH or not lower.startswith("code", word.start):
        return False
    return _is_called(shown, word.start)


def _is_called(shown: str, code: int) -> bool:
    """Whether the word `code` that stands there is that of a thing."""
    before = _OF_THING.search(shown, max(0, code - _LABEL_CHARS), code)
    return before is not None and before["thing"] not in PURPOSES


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
                kind.rstrip(" -_'\"").endswith(NOT_BEFORE) and not is_of_sender(kind, len(kind))
            )
    for said in NOT_AFTER if ending.endswith(NOT_AFTER) else ():
        if ending.endswith(said) and ending.removesuffix(said).rstrip().endswith(_NOUNS):
            return True
    return False


def _is_label(ending: str) -> bool:
    for label in LABELS if ending.endswith(LABELS) else ():
        if ending.endswith(label):
            start = len(ending) - len(label)
            if is_wide(label[0]) or not ending[max(0, start - 1) : start].isalpha():
                return True
    return False
