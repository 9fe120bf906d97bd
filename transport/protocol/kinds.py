"""Every kind of message that the server sends besides replies: its fields and its meaning. Pure.

This table is the only home of the kinds. The Python client decodes by it, `publish` refuses event types with
these names, `scripts/kinds_page.py` writes the types of the browser client and the table in docs/protocol.md
from it, and a test compares the golden conversations with it.

A field without a default is in every message of its kind. A field with a default may be missing: if it is
`MAYBE` or may be None in any message, else only in a refusal. Receivers ignore unknown fields: a newer server
may add some.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

MAYBE: Final = Meta(extra={"maybe": True})
type OutcomeName = Annotated[str, Meta(extra={"browser": "Outcome"})]


class StreamPlace(msgspec.Struct, frozen=True):
    """One stream of an `authentication_result`."""

    outcome: OutcomeName
    after: int = 0
    first: int = 1
    head: int = 0


class DictionaryPlace(msgspec.Struct, frozen=True):
    """The dictionary of an `authentication_result`."""

    id: int
    url: str


class Kind(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all kinds."""


class Moving(Kind, frozen=True):
    """Base of the kinds that move a cursor."""

    stream: str
    seq: int


class AuthResult(Kind, frozen=True, tag="authentication_result"):
    """PROTOCOL 3.1, success and failure."""

    success: bool
    message: str = ""
    code: str = ""
    session: str = ""
    log: str = ""
    user: dict[str, Any] = {}
    expires_at: str = ""
    heartbeat_s: float = 30.0
    window: int = 512
    streams: dict[str, StreamPlace] = {}
    dictionary: DictionaryPlace | None = None


class Subscribed(Kind, frozen=True, tag="subscribed"):
    """PROTOCOL 3.2. Without an id: it follows a `pending` of an `authentication_result`."""

    stream: str
    outcome: OutcomeName
    id: str = ""
    log: str = ""
    after: int = 0
    first: int = 1
    head: int = 0


class Unsubscribed(Kind, frozen=True, tag="unsubscribed"):
    """The answer to `unsubscribe`, or (with `reason`) the end of a subscription; `retry_s`: only for now."""

    stream: str
    id: Annotated[str, MAYBE] = ""
    reason: Annotated[str, MAYBE] = ""
    retry_s: float | None = None


class EventsFrame(Moving, frozen=True, tag="events"):
    """A contiguous run: its events are `seq`, `seq + 1` and so on."""

    events: list[dict[str, Any]]


class LiveFrame(Kind, frozen=True, tag="live"):
    """Caught up with the head; once per subscription."""

    stream: str
    seq: int
    check: Annotated[str, MAYBE] = ""


class SnapshotFrame(Moving, frozen=True, tag="snapshot"):
    """The state after event `seq`, or a part of it; the next event is `seq + 1`."""

    state: dict[str, Any]
    check: Annotated[str, MAYBE] = ""
    part: Annotated[int, MAYBE] = 1
    more: Annotated[bool, MAYBE] = False


class SkippedFrame(Moving, frozen=True, tag="skipped"):
    """Events `seq`…`to` were pruned; the cursor moves to `to`."""

    to: int
    reason: Annotated[str, Meta(examples=["compacted"])] = ""


class LagFrame(Kind, frozen=True, tag="lag"):
    """The window is full and `behind` events wait; at most once a second."""

    stream: str
    behind: int


class TokenExpiringFrame(Kind, frozen=True, tag="token_expiring"):
    """The token has `in_s` seconds left."""

    in_s: float


class GoawayFrame(Kind, frozen=True, tag="goaway"):
    """The server will close the connection with `code`."""

    code: int
    reason: str = ""
    retry_s: tuple[float, float] | None = None


class HeartbeatFrame(Kind, frozen=True, tag="heartbeat"):
    """The server asks for an answer, to see that the client is alive."""

    timestamp: Annotated[str, MAYBE] = ""


KINDS: Final[tuple[type[Kind], ...]] = (
    AuthResult, Subscribed, Unsubscribed, EventsFrame, LiveFrame, SnapshotFrame, SkippedFrame, LagFrame,
    TokenExpiringFrame, GoawayFrame, HeartbeatFrame,
)  # fmt: skip


def name_of(kind: type[Kind]) -> str:
    """What the messages of this kind have as `type`."""
    return str(kind.__struct_config__.tag)


MOVING: Final = frozenset(name_of(kind) for kind in KINDS if issubclass(kind, Moving))
NAMES: Final = frozenset(map(name_of, KINDS))
