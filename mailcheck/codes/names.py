"""Where words of a list stand in a text, fast enough for each mail. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from string import ascii_lowercase
from typing import Literal

import msgspec

_WIDE = re.compile(r"[\u0e00-\u0e7f⺀-\U0010ffff]")

type Kind = Literal["near", "close", "enter", "use", "after"]
TOKEN = re.compile(r"[^\W\d_\u0e00-\u0e7f⺀-\U0010ffff]+")
"""A word of a script with blanks between words."""
_PLACES_MAX = 100
"""Of one word. What announces a code stands near the beginning, and few places count."""
PLACES_MAX = 600
"""Of a list of words, or of a form of them."""
_LETTERS = bytes(code if chr(code) in ascii_lowercase else ord(" ") for code in range(256))
"""Blanks for all else: ten times as fast as an expression."""


class Announcement(msgspec.Struct, frozen=True, gc=False):
    """Where a word stands, and how surely a number next to it is a code."""

    start: int
    end: int
    worth: float
    kind: Kind = "near"
    """A name is near its code, a word for a password close to it; what an order is about stands beside it, or
    alone on a line below."""


class Names:
    """Words to look for in texts: those with blanks around by their first part, the others one by one."""

    def __init__(self, words: tuple[str, ...], worth: float, kind: Kind = "near") -> None:
        self._worth, self._kind = worth, kind
        self._by_first: dict[str, list[str]] = defaultdict(list)
        self._wide = tuple(word for word in words if not TOKEN.match(word))
        for word in words:
            first = TOKEN.match(word)
            if first:
                self._by_first[first[0]].append(word)

    def places(self, lower: str, tokens: set[str], *, wide: bool) -> list[Announcement]:
        """Where they first stand in a text with these `tokens`, with wide scripts or not."""
        words = [word for first in sorted(self._by_first.keys() & tokens) for word in self._by_first[first]]
        found = (
            Announcement(at, end, self._worth, self._kind)
            for word in (*words, *(self._wide if wide else ()))
            if word.removesuffix("*") in lower
            for at, end in islice(_places(lower, word), _PLACES_MAX)
        )
        return list(islice(found, PLACES_MAX))


def tokens_of(lower: str) -> set[str]:
    """The words of a text in lower case, as `Names.places` takes them."""
    if lower.isascii():
        return set(lower.encode("ascii").translate(_LETTERS).decode("ascii").split())
    return set(TOKEN.findall(lower))


def has_wide(text: str) -> bool:
    """Whether it has characters of a script without blanks between words."""
    return not text.isascii() and _WIDE.search(text) is not None


def is_wide(char: str) -> bool:
    """Whether it is of a script without blanks between words."""
    return char >= "⺀" or "\u0e00" <= char <= "\u0e7f"


def _places(lower: str, word: str) -> Iterator[tuple[int, int]]:
    """Where `word` stands as a word of its own; languages without blanks have no such bounds."""
    bound, has_endings = not is_wide(word[0]), word.endswith("*")
    word = word.removesuffix("*")
    at = lower.find(word)
    while at >= 0:
        end = at + len(word)
        ending = TOKEN.match(lower, end) if has_endings else None
        end = ending.end() if ending else end
        before, after = lower[at - 1 : at], lower[end : end + 1]
        if not bound or not (_joins(before) or _joins(after)):
            yield at, end
        at = lower.find(word, end)


def _joins(char: str) -> bool:
    """Whether a letter next to a word makes it a part of a longer one."""
    return char.isalpha() and not is_wide(char)
