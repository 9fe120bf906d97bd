"""What in a mail announces a code: its name, a word for its characters, an order to enter something. Pure."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, islice
from typing import Literal

import msgspec

from huahuo.mailcheck.codes.words import (
    ASKED_AFTER,
    COMPOUND_ENDS,
    MADE_WIDE,
    ON_SCREEN,
    PLACES_MAX,
    PUT_IN_WIDE,
    TOKEN,
    WORDS,
    Announcement,
    Kind,
    Names,
    has_wide,
    is_wide,
)

STRONG_WORTH, _ONCE_WORTH, WEAK_WORTH = 0.9, 0.75, 0.68
_ANNOUNCEMENTS_MAX = 60
_BESIDE_CHARS = 40
"""How far from an order the word for what is to be entered may stand, to say what the mail is about."""
_LAST_CHARS = 32
_MARGIN_CHARS = 8
_NAMES_ALONE = frozenset((*WORDS["weak"], *WORDS["close"]))
"""A subject that is one of these says what its mail is about."""
_YOUR = re.compile(
    r"^ ?(?:(?:your|the|deine?|ihre?|das|die|votre|ton|ta|le|la|tu|su|el|ваш[еа]?|твоё?) |あなたの|您的|"
    r"今回の|오늘의 |今日の|今日)"
)
_LAST_DIGITS = re.compile(
    rf"\b(?:{'|'.join(WORDS['last'])})\b[^.!?;,\n]{{0,12}}\b(?:{'|'.join(WORDS['digits'])})$"
    rf"|(?:{'|'.join(WORDS['last_wide'])})\s?[0-9一二三四五六七八两네]?\s?(?:{'|'.join(WORDS['digits_wide'])})$"
)
_DISCOUNT = re.compile(r"(?<![0-9])-\s?[0-9]{1,2}\s?%")
_PUT_IN = re.compile(
    r"[^\w.!?]{0,3}(?:(?:the|this) number |(?:die|el|le|la) \w{4,8} |номер |число )?[0-9][0-9 -]{2,10}"
    r"(?:[.!\n]|$|(?:in|into|on|at|when|where|auf|im|ins|am|wenn|wo|dans|sur|lorsque|quand|en|donde|cuando|"
    r"в|на|где|когда)\s|(?:with|using|mit|avec|con) (?:the|your|der|deiner|la|votre|ta|el|tu) "
    r"(?:remote|keypad|fernbedienung|télécommande|mando|control)\b|(?:с )?пульт)"
)
"""After an order: `enter 4820 in the app`."""
_PUT_ON = re.compile(ON_SCREEN + r"[\"'(]?[0-9][0-9 -]{2,10}")
"""After an order: `enter in the app 4820`."""
_PUT_THEN = re.compile(rf"\s[0-9][0-9 -]{{2,10}}(?P<then>{ON_SCREEN.removesuffix(r'\s')}\b)")
"""After a verb of `put`."""
_NUMBER_AFTER = re.compile(r"[^\w.!?\n]{0,3}[0-9][0-9 -]{2,10}")
_NUMBER_BEFORE = re.compile(r"[0-9]{3}[^\w.!?\n]{0,4}$")
_SENTENCE_ENDS = re.compile(r"[.!?\n]")
_OWN = re.compile(r"\W{0,3}[a-z-]{0,2}[0-9]{1,3}(?![ -]?[0-9a-z])")
_OF_BANK = re.compile(
    r"\b(?:your|deine?|ihre?|votre|ton|tu|su|ваш) (?!(?:new|old|own|local|neue[rn]?|eigene[rn]?|nouvelle) )"
    r"(?:[^\W\d_]+[ -]){1,3}bank$"
)
_YOUR_CODE = re.compile(
    r"\b(?:your|deine?|ihre?) (?P<name>(?:[^\W\d_]+[ -]){1,2})(?:code|pin)(?: is| ist| lautet|:)"
)
"""`your Harbour code is`."""
_COMPOUND_WIDE = re.compile(r"(?<=[一-鿿])码")


class Announced(msgspec.Struct, frozen=True, gc=False):
    """All of a mail."""

    found: list[Announcement]
    unnamed: Literal["none", "firm", "all"] = "none"
    """Which numbers may be a code without its name: of mails about signing in all, else `is_firm` ones."""


def named(lower: str, tokens: set[str]) -> list[Announcement]:
    """Where names of codes stand in a text of these words (`tokens_of`)."""
    return _ranked(_strong(lower, tokens, wide=has_wide(lower)))


def announced(lower: str, tokens: set[str], names: list[Announcement]) -> Announced:
    """`names` first and orders last: of a long mail only the first count."""
    wide = has_wide(lower)

    def found(names: Names) -> list[Announcement]:
        return names.places(lower, tokens, wide=wide)

    strong = list(names)
    told = mentions(lower, WORDS["tells"], wide=wide)
    signing_in = mentions(lower, WORDS["sign_in"], wide=wide)
    elsewhere = mentions(lower, WORDS["elsewhere"], wide=wide) or (
        "%" in lower and _DISCOUNT.search(lower) is not None
    )
    if not told and (elsewhere or mentions(lower, WORDS["journeys"], wide=wide)):
        return Announced(_ranked(strong, found(_ENTER) if signing_in and not elsewhere else ()))
    strong += found(_DOUBLE)
    once = found(_ONCE)
    weak = _outside(_weak(lower, tokens, found(_WEAK)), strong)
    close = _outside(found(_CLOSE), strong)
    orders = found(_ENTER) + found(_USE) + found(_ASKS_AFTER)
    if wide:
        orders += [
            _of(match, WEAK_WORTH, "after") for match in islice(ASKED_AFTER.finditer(lower), PLACES_MAX)
        ]
    put_in = list(_put_in(lower, found(_PUT), wide=wide))
    orders += put_in
    about = (
        told
        or once
        or bool(put_in)
        or signing_in
        or any(mentions(lower, words, wide=wide) for words in (WORDS["ends"], WORDS["yours"]))
    )
    about = about or _YOUR.sub("", lower.partition("\n")[0]).strip(" :.!-") in _NAMES_ALONE
    about = about or _is_yours(lower)
    deal = mentions(lower, WORDS["deals"], wide=wide)
    if told or not (deal or mentions(lower, WORDS["paid"], wide=wide)):
        strong += found(_BOUGHT)
    else:  # nor does the last word of such a name announce one
        weak = _outside(weak, found(_BOUGHT))
    if not (about or _asked_to_enter(weak, orders) or _is_put_in(lower, orders)):
        labels = [one for one in weak if _is_label(lower, one)]
        return Announced(_ranked(strong, *(() if deal else (labels, orders))), "none" if deal else "firm")
    return Announced(_ranked(strong, once, weak, close, orders), "none" if deal else "all")


def _is_yours(lower: str) -> bool:
    """Whether it says what the reader's code is, and not that of another kind."""
    return any(
        not _is_other_kind(lower, match.end("name"), match.end())
        for match in islice(_YOUR_CODE.finditer(lower), PLACES_MAX)
    )


def _put_in(lower: str, verbs: list[Announcement], *, wide: bool) -> Iterator[Announcement]:
    """What follows a number that is to be put in somewhere."""
    found = [_PUT_THEN.match(lower, verb.end) for verb in verbs]
    if wide:
        found += islice(PUT_IN_WIDE.finditer(lower), PLACES_MAX)
    for match in found:
        if match is not None and match.lastgroup is not None:
            yield Announcement(match.start(match.lastgroup), match.end(), WEAK_WORTH, "after")


def _strong(lower: str, tokens: set[str], *, wide: bool) -> list[Announcement]:
    found = _STRONG.places(lower, tokens, wide=wide)
    if wide:
        starts = {one.start for one in found}
        made = (_of(match, STRONG_WORTH, "near") for match in islice(MADE_WIDE.finditer(lower), PLACES_MAX))
        found += [one for one in made if one.start not in starts]
    return found


def _of(match: re.Match[str], worth: float, kind: Kind) -> Announcement:
    return Announcement(match.start(), match.end(), worth, kind)


def ends_with_last_digits(lower: str, end: int) -> bool:
    """`the last four digits`."""
    return _LAST_DIGITS.search(lower, max(0, end - _LAST_CHARS), end) is not None


def _ranked(*found: Iterable[Announcement]) -> list[Announcement]:
    return list(chain.from_iterable(sorted(ones, key=lambda one: one.start) for ones in found))[
        :_ANNOUNCEMENTS_MAX
    ]


def mentions(lower: str, words: tuple[str, ...], *, wide: bool) -> bool:
    """Whether one of them occurs anywhere, also inside other words."""
    for word in words if wide else _narrow(words):  # noqa: SIM110  `any` takes twice as long
        if word in lower:
            return True
    return False


@cache
def _narrow(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if not is_wide(word[0]))


def _weak(lower: str, tokens: set[str], named: list[Announcement]) -> Iterator[Announcement]:
    for one in named:
        if not _is_other_kind(lower, one.start, one.end) and not _has_own(lower, one.end):
            yield one
    made = {token for token in tokens if token.endswith(COMPOUND_ENDS) and _is_made(token)}
    words = (match for match in TOKEN.finditer(lower) if match[0] in made) if made else iter(())
    for match in islice(words, PLACES_MAX):  # one look at the text, however many they are
        yield _of(match, WEAK_WORTH, "near")
    for match in islice(_COMPOUND_WIDE.finditer(lower), PLACES_MAX) if "码" in lower else ():
        if not lower.endswith(WORDS["kinds_wide"], 0, match.start()):
            yield Announcement(match.start(), match.end(), WEAK_WORTH)


def _is_made(token: str) -> bool:
    """Whether a beginning that is no other kind's stands before one of the ends."""
    return any(
        token.endswith(end) and len(token) > len(end) + 1 and token.removesuffix(end) not in WORDS["kinds"]
        for end in COMPOUND_ENDS
    )


def _outside(ones: Iterable[Announcement], others: list[Announcement]) -> list[Announcement]:
    """Those that are part of none of the others. Both are gone through once, as there may be thousands."""
    found: list[Announcement] = []
    left, end = sorted(others, key=lambda other: other.start, reverse=True), 0
    for one in sorted(ones, key=lambda one: one.start):
        while left and left[-1].start <= one.start:
            end = max(end, left.pop().end)
        if one.end > end:
            found.append(one)
    return found


def _is_label(lower: str, word: Announcement) -> bool:
    """Whether it begins its line or sentence and a colon follows: `Code: 482913`."""
    begin = lower.rfind("\n", max(0, word.start - _MARGIN_CHARS), word.start)
    before = lower[max(begin + 1, word.start - _MARGIN_CHARS) : word.start]
    begins = not before.strip(" *-•") or before.rstrip().endswith((".", "!", "?"))
    return begins and lower[word.end : word.end + 3].lstrip().startswith(":")


def _asked_to_enter(weak: list[Announcement], orders: list[Announcement]) -> bool:
    return any(
        abs(order.start - word.start) <= _BESIDE_CHARS
        for order in orders[:_ANNOUNCEMENTS_MAX]
        if order.kind != "use"
        for word in weak[:_ANNOUNCEMENTS_MAX]
    )


def _is_put_in(lower: str, orders: list[Announcement]) -> bool:
    return any(
        (order.kind == "enter" and (_PUT_IN.match(lower, order.end) or _PUT_ON.match(lower, order.end)))
        or _is_on_screen(lower, order)
        for order in orders[:_ANNOUNCEMENTS_MAX]
    )


def _is_on_screen(lower: str, order: Announcement) -> bool:
    """Whether a number is next to the order, and its sentence names what it is typed on."""
    adjoins = order.kind != "use" and (
        _NUMBER_BEFORE.search(lower, max(0, order.start - _MARGIN_CHARS), order.start)
        if order.kind == "after"
        else _NUMBER_AFTER.match(lower, order.end)
    )
    if not adjoins:
        return False
    before = _SENTENCE_ENDS.split(lower[max(0, order.start - _BESIDE_CHARS) : order.start])[-1]
    after = _SENTENCE_ENDS.split(lower[order.start : order.end + _BESIDE_CHARS], maxsplit=1)[0]
    return mentions(f"{before}|{after}", WORDS["screen"], wide=True)


def _is_other_kind(lower: str, start: int, end: int) -> bool:
    before, after = lower[max(0, start - 16) : start].rstrip(" -_'\""), lower[end : end + 20].lstrip(" -_")
    if lower.startswith(("コード", "코드"), start) and is_wide(lower[start - 1 : start] or " "):
        return not lower.endswith(WORDS["attached"], 0, start)
    of_kind = before.endswith(WORDS["not_before"]) and not is_of_sender(lower, start)
    return of_kind or after.startswith(WORDS["not_after"]) or ends_with_last_digits(lower, end)


def is_of_sender(lower: str, end: int) -> bool:
    """Whether the text up to there names a bank as the sender: `your Harbour Bank code`, not a sort code."""
    return (
        lower.endswith("bank ", 0, end)
        and _OF_BANK.search(lower, max(0, end - _LAST_CHARS), end - 1) is not None
    )


def _has_own(lower: str, end: int) -> bool:
    """Whether a short number follows that is no candidate: `exited with code 137`."""
    return _OWN.match(lower, end) is not None


_BOUGHT = Names(WORDS["bought"], STRONG_WORTH)
_STRONG, _DOUBLE = Names(WORDS["strong"], STRONG_WORTH), Names(WORDS["double"], STRONG_WORTH)
_ONCE, _WEAK, _CLOSE = (
    Names(WORDS["once"], _ONCE_WORTH),
    Names(WORDS["weak"], WEAK_WORTH),
    Names(WORDS["close"], WEAK_WORTH, "close"),
)
_PUT = Names(WORDS["put"], WEAK_WORTH, "enter")
_ENTER = Names(WORDS["enter"], WEAK_WORTH, "enter")
_USE = Names(WORDS["use"], WEAK_WORTH, "use")
_ASKS_AFTER = Names(WORDS["asks_after"], WEAK_WORTH, "after")
