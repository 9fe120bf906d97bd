"""Making a zstd dictionary for short messages of few shapes. Pure.

zstd's own trainer picks the pieces that most samples share. In a message of 200 bytes another cost is
larger: each match states the distance back to its text, unless it is the distance of the match before.
So the content consists of whole messages. A new message finds one text after the other at the same distance
in them, as long as its numbers have the same length. Which messages, where, and how much of them is tried
out by compressing. The tables of symbol frequencies before the content are the trainer's.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from struct import pack
from typing import Final

import msgspec
import zstandard

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.zstd_frames import DICTIONARY_BYTES_MAX, BadDictionary, Compressor, Dictionary

DICTIONARY_BYTES_MIN: Final = 256
TRIES: Final = 8000
"""How many changes of the content are tried: about ten seconds. Twice as many gain half a percent."""
_ID_FIRST, _ID_COUNT = 1 << 15, 1 << 15
"""Ids from 32,768 may be chosen freely (RFC 8878); up to 65,535 an id fits in two bytes of a frame."""
_LEVEL = 4
_DISTANCES = pack("<III", 1, 4, 8)
"""The distances that count before the first match: they follow the tables in every trained dictionary."""
_JUDGES, _RUNS = 300, 12
_CUT_BYTES_MAX = 40
_TRAINED_MAX = 8000


class Samples(msgspec.Struct, frozen=True):
    """Messages to train from: the most frequent ones, all that are sent alone, and long ones."""

    common: Sequence[bytes]
    alone: Sequence[bytes]
    runs: Sequence[bytes] = ()


def train(samples: Samples, size_bytes: int, tries: int = TRIES) -> Dictionary:
    """A dictionary of at most `size_bytes`; the same samples and version of zstd give the same.

    Common messages have half of the weight when sizes are compared.

    Raises:
        BadDictionary: too few samples, or a size outside the bounds.
    """
    if not DICTIONARY_BYTES_MIN <= size_bytes <= DICTIONARY_BYTES_MAX:
        raise BadDictionary(f"a size from {DICTIONARY_BYTES_MIN} to {DICTIONARY_BYTES_MAX} bytes is needed")
    try:
        trained = zstandard.train_dictionary(
            size_bytes, list(samples.common[:_TRAINED_MAX]), dict_id=_ID_FIRST, level=_LEVEL
        ).as_bytes()
        head = trained[: trained.index(_DISTANCES) + len(_DISTANCES)]
    except (zstandard.ZstdError, ValueError):
        raise BadDictionary("these samples are too few to train from") from None
    search = _Search(head, samples, size_bytes - len(head), FakeAmbient(_number(trained)).random)
    for _ in range(tries):
        search.step()
    content = head + b"".join(search.parts)
    number = _ID_FIRST + _number(content) % _ID_COUNT
    return Dictionary(number, content[:4] + pack("<I", number) + content[8:])


def _number(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


class _Search:
    """Searches for `parts`, the content: a change is kept if it makes the messages smaller."""

    def __init__(self, head: bytes, samples: Samples, bytes_max: int, chance: Callable[[], float]) -> None:
        self._head, self._bytes_max, self._chance = head, bytes_max, chance
        self._alone = samples.alone
        judges = [*self._some(samples.common, _JUDGES), *self._some(samples.alone, _JUDGES)]
        self._rest = [*judges[::2], *self._some(samples.runs, _RUNS)]
        self._first = judges[1::2]
        self.parts: list[bytes] = []
        left = bytes_max
        while left > 0:
            self.parts.append(self._of(self._alone)[:left])
            left -= len(self.parts[-1])
        compressor = self._compressor(self.parts)
        self._best_first = _bytes(compressor, self._first)
        self._best = self._best_first + _bytes(compressor, self._rest)

    def step(self) -> None:
        """Try one change."""
        parts = self._changed()
        if sum(map(len, parts)) > self._bytes_max:
            return
        compressor = self._compressor(parts)
        first = _bytes(compressor, self._first)
        if first > self._best_first * 1.01:  # the rest cannot make up for that
            return
        total = first + _bytes(compressor, self._rest)
        if total < self._best:
            self.parts, self._best_first, self._best = parts, first, total

    def _changed(self) -> list[bytes]:
        parts = list(self.parts)
        at = self._below(len(parts))
        match self._below(10):
            case 0 | 1:
                parts.insert(self._below(len(parts)), parts.pop(at))
            case 2:
                cut = 1 + self._below(_CUT_BYTES_MAX)
                parts[at] = parts[at][cut:] if self._below(2) else parts[at][:-cut]
            case 3:
                parts.insert(self._below(len(parts) + 1), self._of(self._alone))
            case _:
                parts[at] = self._of(self._alone)
        return parts

    def _compressor(self, parts: Sequence[bytes]) -> Compressor:
        return Compressor(Dictionary(_ID_FIRST, self._head + b"".join(parts)), _LEVEL)

    def _some(self, messages: Sequence[bytes], count: int) -> list[bytes]:
        return [self._of(messages) for _ in range(count)] if messages else []

    def _of(self, messages: Sequence[bytes]) -> bytes:
        return messages[self._below(len(messages))]

    def _below(self, limit: int) -> int:
        return int(self._chance() * limit)


def _bytes(compressor: Compressor, messages: Sequence[bytes]) -> int:
    return sum(len(compressor.compress(message)) for message in messages)
