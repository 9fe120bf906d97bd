"""Pages of a stream as JSON, and how long they may be kept (docs/http.md). Pure.

A page that events follow is closed: a later request for the same place and limit gets the same bytes. If the
request also names the log, caches may keep it; until compaction removes events, which is why a day is enough.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from huahuo.transport.http.asked import After
from huahuo.transport.http.messages import Headers
from huahuo.transport.protocol.place import Outcome

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
