"""What a request's parameters ask for: a place in a stream, a page, a time to wait. Pure.

Raises `AskedWrongly` with the parameter's name and what it must be.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.eventstore.model import Head
from huahuo.transport.protocol.place import Outcome, Place, place
from huahuo.transport.words import http_zh

LIMIT_MAX: Final = 1000
LIMIT: Final = 100
WAIT_S_MAX: Final = 60.0
_LOG_ID_CHARS_MAX: Final = 64

_NUMBER = re.compile(r"[0-9]{1,16}")
_LAST = re.compile(r"-([1-9][0-9]{0,5})")
_WORDS = ("head", "start", "snapshot")


class AskedWrongly(Exception):  # noqa: N818  it is said to the client
    """A parameter is not usable."""


class After(msgspec.Struct, frozen=True):
    """A place to read from: behind a seq, at a word's place, or before the last `last` events.

    `log`: the log that the seq is of; "" if the reader does not say, which means the log of today.
    """

    at: int | str = "head"
    log: str = ""
    last: int = 0

    def resolved(self, head: Head, log_id: str) -> Place:
        """The place, with its outcome."""
        if self.last:
            return Place(Outcome.FRESH, max(head.seq - self.last, head.first - 1, 0))
        return place(head, self.at, same_log=self.log in ("", log_id))

    def subscription(self, stream: str, head: Head, log_id: str) -> dict[str, object]:
        """The message `subscribe` for this place (PROTOCOL 3.2)."""
        after = self.resolved(head, log_id).after if self.last else self.at
        return {"action": "subscribe", "stream": stream, "after": after, "log": self.log or log_id}


def after_of(text: str) -> After:
    """From `7`, `<log>:7`, `-50`, `head`, `start` or `snapshot`."""
    if text in _WORDS:
        return After(text)
    last = _LAST.fullmatch(text)
    if last:
        return After(last=int(last[1]))
    log, colon, number = text.rpartition(":")
    if not _NUMBER.fullmatch(number) or int(number) > BROWSER_INT_MAX or len(log) > _LOG_ID_CHARS_MAX:
        raise AskedWrongly(http_zh.AFTER_NEEDED)
    # An id that was never ours, such as ":7", is of another log: the reader gets a reset.
    return After(int(number), log if log or not colon else "?")


def place_asked(query: Mapping[str, str], last_event_id: str | None, default: str) -> After:
    """The place of `Last-Event-ID`, else of `after`, else `default`."""
    return after_of(last_event_id or query.get("after") or default)


def limit_of(query: Mapping[str, str]) -> int:
    """How many events a page may hold."""
    text = query.get("limit", "")
    if not text:
        return LIMIT
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= LIMIT_MAX:
        raise AskedWrongly(http_zh.LIMIT_NEEDED.format(LIMIT_MAX))
    return int(text)


def wait_s_of(query: Mapping[str, str], default_s: float = 0.0) -> float:
    """How long to wait for something new, in seconds."""
    text = query.get("wait", "")
    if not text:
        return default_s
    try:
        wait_s = float(text)
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= WAIT_S_MAX:
        raise AskedWrongly(http_zh.WAIT_NEEDED.format(round(WAIT_S_MAX)))
    return wait_s


def seq_of(query: Mapping[str, str]) -> int:
    """The parameter `seq`."""
    text = query.get("seq", "")
    if not _NUMBER.fullmatch(text) or int(text) > BROWSER_INT_MAX:
        raise AskedWrongly(http_zh.SEQ_NEEDED)
    return int(text)
