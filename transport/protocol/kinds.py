"""Every kind of message that the server sends besides replies, and parts of long ones. Pure.

This table is the only home of the kinds. The Python client decodes by it, `publish` refuses event types
with these names, `scripts/pages.py` writes the types of the browser client and the table in
docs/protocol.md from it, and a test compares the golden conversations with it.

A field without a default is in every message of its kind. A field with a default may be missing: if it is
`MAYBE` or may be None in any message, else only in a refusal. Receivers ignore unknown fields: a newer
server may add some. `place` gives the outcome of a subscription: where it begins (PROTOCOL 3.1).

A part (PROTOCOL 12) is a JSON object like the whole. To put parts together, merge objects member by member
and append lists. Of other values, the later one replaces the earlier one, so a part may repeat the members
that identify the whole.
"""

from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from huahuo.eventstore.model import Head

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


class Following(Kind, frozen=True, tag="following"):
    """The answer to `follow`: `view` names the list from now on. Without an id: its rows are others now."""

    outcome: OutcomeName
    id: Annotated[str, MAYBE] = ""
    view: int = 0
    was: Annotated[int, MAYBE] = 0
    log: str = ""
    position: int = 0
    of: str = ""
    limit: int = 0
    order: str = ""


class RowsFrame(Kind, frozen=True, tag="rows"):
    """What brings a followed list to the commit `position`."""

    view: int
    position: int
    put: list[list[Any]]
    drop: list[Any]
    bound: Annotated[Any, MAYBE] = None
    reset: Annotated[bool, MAYBE] = False
    more: Annotated[bool, MAYBE] = False
    count: Annotated[int, MAYBE] = 0


class ReachedFrame(Kind, frozen=True, tag="reached"):
    """All followed lists contain `position`, but those whose acks are awaited."""

    position: int
    but: Annotated[list[int], MAYBE] = []


class StateFrame(Kind, frozen=True, tag="state"):
    """The followed state after event `seq`, or what differs from the one before (RFC 7396)."""

    view: int
    seq: int
    state: Annotated[dict[str, Any], MAYBE] = {}
    patch: Annotated[dict[str, Any], MAYBE] = {}


class Unfollowed(Kind, frozen=True, tag="unfollowed"):
    """The answer to `unfollow`, or (with `reason`) the end of a list."""

    view: int
    id: Annotated[str, MAYBE] = ""
    reason: Annotated[str, MAYBE] = ""


KINDS: Final[tuple[type[Kind], ...]] = (
    AuthResult, Subscribed, Unsubscribed, EventsFrame, LiveFrame, SnapshotFrame, SkippedFrame, LagFrame,
    TokenExpiringFrame, GoawayFrame, HeartbeatFrame, Following, RowsFrame, ReachedFrame, StateFrame,
    Unfollowed,
)  # fmt: skip


def name_of(kind: type[Kind]) -> str:
    """What the messages of this kind have as `type`."""
    return str(kind.__struct_config__.tag)


MOVING: Final = frozenset(name_of(kind) for kind in KINDS if issubclass(kind, Moving))
NAMES: Final = frozenset(map(name_of, KINDS))

type Json = dict[str, Any]

ASSEMBLED_BYTES_MAX = 256 << 20
"""The bound on one message that a client puts together: all its parts as JSON."""


class Part(NamedTuple):
    """A part's place among the parts of a message. `ONLY` marks a message that is not cut."""

    number: int
    more: bool

    @property
    def members(self) -> bytes:
        """The place as members of a JSON object; none for a message that is not cut."""
        if self == ONLY:
            return b""
        return b'"part":%d,"more":true' % self.number if self.more else b'"part":%d' % self.number


ONLY = Part(1, more=False)


class Assembly:
    """Puts the parts of one message together, in order."""

    __slots__ = ("_bytes_max", "_number", "_size_bytes", "whole")

    def __init__(self, bytes_max: int = ASSEMBLED_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._number = 0
        self._size_bytes = 0
        self.whole: Json = {}

    def add(self, part: Json, number: int, size_bytes: int) -> bool:
        """Add a part. False: it does not follow the last part, or all parts together are too large."""
        if number == 1:
            self._number = self._size_bytes = 0
            self.whole = {}
        self._size_bytes += size_bytes
        if number != self._number + 1 or self._size_bytes > self._bytes_max:
            return False
        self._number = number
        merge(self.whole, part)
        return True


def merge(whole: Json, part: Json) -> None:
    """Merge `part` into `whole`, which may then share objects with `part`."""
    for name, value in part.items():
        known = whole.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            merge(known, value)
        elif isinstance(known, list) and isinstance(value, list):
            known += value
        else:
            whole[name] = value


class Outcome(StrEnum):
    """The answer to a client's request for a place."""

    FRESH = "fresh"
    RESUMED = "resumed"
    GAP = "gap"
    RESET = "reset"
    SNAPSHOT = "snapshot"
    DENIED = "denied"
    PENDING = "pending"


class Place(msgspec.Struct, frozen=True):
    """The reader's position: its next event is the one after seq `after`.

    `ahead`: the client's cursor is beyond the head. `differs`: its check is not the log's. Both happen only
    if events were lost or replaced.
    """

    outcome: Outcome
    after: int
    ahead: bool = False
    differs: bool = False

    @property
    def needs_snapshot(self) -> bool:
        """Whether a snapshot must be sent before the events."""
        return self.outcome in (Outcome.GAP, Outcome.RESET, Outcome.SNAPSHOT)


def place(head: Head, after: int | str, *, same_log: bool, differs: bool = False) -> Place:
    """The place for `after`: a cursor (of this log if `same_log`), `head`, `start` or `snapshot`.

    `differs`: the events before the cursor are not those that the client saw.

    If a snapshot is needed, it will be of this head or a later one.

    Raises:
        ValueError: another text.
    """
    match after:
        case int():
            return _by_cursor(head, after, same_log=same_log, differs=differs)
        case "head":
            return Place(Outcome.FRESH, head.seq)
        case "start":
            return _by_cursor(head, 0, same_log=True)
        case "snapshot":
            return Place(Outcome.SNAPSHOT, head.seq)
        case _:
            raise ValueError("unknown place")


def _by_cursor(head: Head, cursor: int, *, same_log: bool, differs: bool = False) -> Place:
    if not same_log:
        return Place(Outcome.RESET, head.seq)
    if cursor > head.seq:
        return Place(Outcome.RESET, head.seq, ahead=True)
    if differs:
        return Place(Outcome.RESET, head.seq, differs=True)
    if cursor < head.first - 1:
        return Place(Outcome.GAP, head.seq)
    return Place(Outcome.RESUMED, cursor)
