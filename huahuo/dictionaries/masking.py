"""Removes everything that one user wrote from events, so that a dictionary may be public. Pure.

A text is a value or a member's name, compared without regard to its digits. It is kept only if it occurs in
the events of at least `STREAMS_MIN` streams: texts of the service do, a subject or an address does not. Any
other text is replaced by as many random letters. Every digit in texts and numbers is replaced by a random
one. Of a time only the year is kept.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

STREAMS_MIN: Final = 5
TEXTS_MAX: Final = 200_000
"""Distinct texts that are remembered. Texts seen after that are masked."""
_TEXT_CHARS_MAX = 120
_DIGIT = re.compile(r"[0-9]")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Masker:
    """Call `saw` for all events, then `masked` for each. `chance` gives random numbers in [0, 1)."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._streams_of: dict[str, set[str]] = {}

    def saw(self, stream: str, body: bytes) -> None:
        """Count the texts in an event of `stream`."""
        for text in _texts(msgspec.json.decode(body)):
            if len(text) > _TEXT_CHARS_MAX:
                continue
            shape = _DIGIT.sub("0", text)
            streams = self._streams_of.get(shape)
            if streams is None:
                if len(self._streams_of) >= TEXTS_MAX:
                    continue
                streams = self._streams_of[shape] = set()
            if len(streams) < STREAMS_MIN:
                streams.add(stream)

    def masked(self, body: bytes) -> bytes:
        """The event with random characters in place of private data."""
        return msgspec.json.encode(self._value(msgspec.json.decode(body)))

    def _value(self, value: Any) -> Any:
        match value:
            case bool() | None:
                return value
            case str():
                return self._text(value)
            case int():
                return self._number(len(str(abs(value)))) * (-1 if value < 0 else 1)
            case float():
                return round(100 * self._chance(), 2)
            case list():
                return [self._value(item) for item in value]
            case _:
                return {self._text(name): self._value(item) for name, item in value.items()}

    def _text(self, text: str) -> str:
        if _MOMENT.fullmatch(text):
            return self._moment(int(text[:4]))
        known = self._streams_of.get(_DIGIT.sub("0", text), ())
        if len(known) >= STREAMS_MIN:
            return _DIGIT.sub(lambda _: str(self._below(10)), text)
        return "".join(_LETTERS[self._below(len(_LETTERS))] for _ in text)

    def _moment(self, year: int) -> str:
        """A random time in that year."""
        month, day, hour = 1 + self._below(12), 1 + self._below(28), self._below(24)
        minute, second, milli = self._below(60), self._below(60), self._below(1000)
        return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"

    def _number(self, digits: int) -> int:
        least = 10 ** (digits - 1) if digits > 1 else 0
        return least + self._below(10**digits - least)

    def _below(self, limit: int) -> int:
        return int(self._chance() * limit)


def _texts(value: Any) -> Iterable[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for name, item in value.items():
                yield name
                yield from _texts(item)
