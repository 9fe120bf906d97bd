"""Pages of a stream as JSON: which one is asked for, and how long it may be kept. Pure.

Parameters ask for a place in a stream, a limit, a time to wait. `AskedWrongly` has the parameter's name and
what it must be.

A page that events follow is closed: a later request for the same place and limit gets the same bytes. If
the request also names the log, caches may keep it; until compaction removes events, which is why a day is
enough.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.eventstore.model import Head
from huahuo.transport.http.messages import Headers
from huahuo.transport.protocol.kinds import Outcome, Place, place
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


_KEPT_S: Final = 86_400
_ETAG_BYTES: Final = 12
_encode = msgspec.json.encode


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a stream, each a JSON object with `stream` and `seq`.

    `snapshot` is the message of PROTOCOL 4, where the page begins with a state. `skipped`: ranges that were
    compacted away. `following`: the next page is behind this seq. `more`: there are events now.
    """

    stream: str
    log: str
    outcome: Outcome
    events: Sequence[bytes] = ()
    snapshot: bytes | None = None
    skipped: Sequence[tuple[int, int]] = ()
    following: int
    more: bool = False

    def encoded(self) -> bytes:
        """The page as JSON."""
        skipped = [{"seq": first, "to": to, "reason": "compacted"} for first, to in self.skipped]
        head = {"type": "page", "stream": self.stream, "log": self.log, "outcome": self.outcome}
        state = b"" if self.snapshot is None else b',"snapshot":' + self.snapshot
        gone = b',"skipped":' + _encode(skipped) if skipped else b""
        tail = _encode({"next": self.following, "more": self.more})[1:]
        return b'%b%b%b,"events":[%b],%b' % (_encode(head)[:-1], state, gone, b",".join(self.events), tail)


def etag_of(body: bytes) -> str:
    """The entity tag of a page."""
    return f'"{hashlib.blake2b(body, digest_size=_ETAG_BYTES).hexdigest()}"'


def matches(etag: str, asked: Sequence[str]) -> bool:
    """Whether `If-None-Match` names this tag."""
    named = [item.strip().removeprefix("W/") for value in asked for item in value.split(",")]
    return etag in named or "*" in named


def page_headers(page: Page, after: After, limit: int, etag: str, *, shared: bool) -> Headers:
    """`shared`: caches between the reader and us may keep closed pages; who may read is theirs to check.

    A kept page answers neither a reader of server-sent events at the same URL nor, in a browser that several
    people use, another user.
    """
    closed = page.more and page.outcome is Outcome.RESUMED and after.log == page.log
    who = "public" if shared else "private"
    keep = f"{who}, max-age={_KEPT_S}, immutable" if closed else "private, no-cache"
    following = f'<?after={page.log}:{page.following}&limit={limit}>; rel="next"'
    vary = "Accept" if shared else "Accept, Authorization"
    return (("ETag", etag), ("Cache-Control", keep), ("Vary", vary), ("Link", following))
