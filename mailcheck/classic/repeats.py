"""Commands that arrive twice: that front end repeats what it sent before it was authenticated. Pure.

It sends no ids, so two messages of one type and content within three seconds are one command.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

WITHIN_S: Final = 3.0
KEPT_MAX: Final = 256
BYTES_MAX: Final = 1 << 20
"""Answers that are kept: that of a long import names each line that failed."""


class _Sent:
    __slots__ = ("again", "answers", "at_s", "size_bytes")

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s
        self.answers: Sequence[Mapping[str, Any]] | None = None
        self.again = 0
        self.size_bytes = 0


class Repeats:
    """The commands of the last seconds on one connection, with their answers; the newest ones are kept."""

    def __init__(self) -> None:
        self._sent: OrderedDict[bytes, _Sent] = OrderedDict()
        self.size_bytes = 0
        """Of the answers."""

    def __len__(self) -> int:
        return len(self._sent)

    def seen(self, key: bytes, now_s: float) -> Sequence[Mapping[str, Any]] | None:
        """The answers if this command was sent just before; empty while it has none. None: it is new."""
        while self._sent and next(iter(self._sent.values())).at_s < now_s - WITHIN_S:
            self._forget_oldest()
        known = self._sent.get(key)
        if known is None:
            self._sent[key] = _Sent(now_s)
            if len(self._sent) > KEPT_MAX:
                self._forget_oldest()
            return None
        if known.answers is None:
            known.again += 1
            return ()
        return known.answers

    def answered(self, key: bytes, answers: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """What to tell now that the command has its answer: once for each time it was sent."""
        known = self._sent.get(key)
        if known is None or known.answers is not None:
            return answers
        known.answers = tuple(answers)
        known.size_bytes = len(msgspec.json.encode(answers))
        self.size_bytes += known.size_bytes
        while self.size_bytes > BYTES_MAX:
            self._forget_oldest()
        return [*answers] * (1 + known.again)

    def _forget_oldest(self) -> None:
        _, sent = self._sent.popitem(last=False)
        self.size_bytes -= sent.size_bytes


def key_of(message: Mapping[str, Any]) -> bytes:
    """The same for messages of the same content. It holds nothing of a password."""
    return blake2b(msgspec.json.encode(message, order="sorted"), digest_size=16).digest()
