"""What sessions say to their shells, what they share, and what they need of the log. Pure.

Outputs are instructions to the shell, carried out in order; `bytes` in a list of them are complete
WebSocket frames to write. `Now` is the time of an input. `Shared` is the same for all sessions of one
server.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Principal, Reply
from huahuo.actors.plugins.words import Language, Words
from huahuo.eventstore.model import Head, Joined, StoredEvent
from huahuo.transport.access.rights import Judged
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import Compression
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import EventTexts, FrameCache
from huahuo.transport.protocol.kinds import Outcome
from huahuo.transport.session.delivery_states import Subscription


class Now(NamedTuple):
    """One moment on both clocks. Deadlines use the monotonic clock, tokens the wall clock."""

    s: float
    ms: int


class Verify(msgspec.Struct, frozen=True):
    """Verify this token, then call `verdict`. Hand in no message before that."""

    token: str

    def __repr__(self) -> str:
        return "Verify('[hidden]')"


class LookUp(msgspec.Struct, frozen=True):
    """Find the links of the hash chain at these (stream, seq), then call `looked_up`.

    Hand in no message before that. `judge`: ask the application whether `principal` may read these streams.
    Verdicts that take too long may follow by `judged`.
    """

    places: tuple[tuple[str, int], ...]
    judge: tuple[str, ...] = ()
    principal: Principal | None = None


class Execute(msgspec.Struct, frozen=True):
    """Answer this call, then call `replied`."""

    call: Call[Any]
    spec: Action
    request_id: str | None


class Record(msgspec.Struct, frozen=True):
    """Keep `reply`, found before any handler ran, as the call's answer, then call `replied`."""

    call: Call[Any]
    reply: Reply
    request_id: str | None


class TakeSnapshot(msgspec.Struct, frozen=True):
    """Get the state of the subscription's stream, then call `snapshot`."""

    sub: Subscription


class Watch(msgspec.Struct, frozen=True):
    """A subscription began: call `woken` after each commit that touches its stream. Idempotent."""

    stream: str
    outcome: Outcome


class Unwatch(msgspec.Struct, frozen=True):
    """The subscription ended: stop calling `woken` for this stream."""

    stream: str


class Acked(msgspec.Struct, frozen=True):
    """The client processed `stream` up to `seq`: remember it."""

    stream: str
    seq: int


class Follow(msgspec.Struct, frozen=True):
    """The client wants to follow a list."""

    asked: incoming.Follow
    request_id: str | None


class Unfollow(msgspec.Struct, frozen=True):
    """The client follows this view no more."""

    view: int
    request_id: str | None


class Present(msgspec.Struct, frozen=True):
    """The client changes what others are shown of it in a presence."""

    view: int
    data: Any
    request_id: str | None


class AckedViews(msgspec.Struct, frozen=True):
    """The client applied what was sent of these views, up to these positions."""

    views: Mapping[str, int]


class Alarm(msgspec.Struct, frozen=True):
    """A client knows events that the log does not hold, so history was lost. Tell the operator.

    `check_seq`: the seq of the check that differs; 0: the cursor is beyond the head.
    """

    stream: str
    cursor: int
    head: int
    check_seq: int = 0


class Close(msgspec.Struct, frozen=True):
    """Close the WebSocket, with a deadline. Always the last output."""

    code: CloseCode
    reason: str


type Output = (
    bytes
    | Verify
    | LookUp
    | Execute
    | Record
    | TakeSnapshot
    | Watch
    | Unwatch
    | Acked
    | Follow
    | Unfollow
    | Present
    | AckedViews
    | Alarm
    | Close
)


class LogView(Protocol):
    """The facts about the log that are in memory."""

    @property
    def log_id(self) -> str:
        """See `huahuo.eventstore.port.Log`."""
        ...

    def head(self, stream: str) -> Head:
        """See `huahuo.eventstore.port.Log`."""
        ...


class RunLike(Protocol):
    """A piece of a stream as `huahuo.replay.feed.Feed` reads it."""

    @property
    def after(self) -> int:
        """The cursor it was read for."""
        ...

    @property
    def events(self) -> tuple[StoredEvent, ...]:
        """The events that follow `after`."""
        ...

    @property
    def joined(self) -> Joined | None:
        """The bodies of the events, in place of `events`. Given only if `Delivery.joins`."""
        ...

    @property
    def skipped_to(self) -> int:
        """All events up to this seq were compacted away (0: none were)."""
        ...


def nobody() -> int:
    """No other connection is known."""
    return 0


def knows_all(_stream: str) -> bool:
    """Every head is in memory."""
    return True


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """Shared by all sessions of one server. `fingerprint_key` must be the same after a restart."""

    settings: TransportSettings
    log: LogView
    frames: FrameCache
    commands: Mapping[str, Action]
    fingerprint_key: bytes
    compression: Compression | None = None
    """None: the compressed protocol is not spoken."""
    event_texts: EventTexts | None = None
    """None: no stream is read as server-sent events."""
    words: Words = Words()
    """The texts for clients."""
    language: Language | None = None
    """Of messages to clients that ask for none. None: English over HTTP, else Chinese."""
    judged: Judged = Judged()
    """The streams whose readers an application judges."""
    shared_log: bool = False
    """Whether other nodes write the log: then a cursor beyond a head may only be ahead of this node."""
    leaving: Callable[[], int] = nobody
    """How many connections leave together when this process drains."""
    knows: Callable[[str], bool] = knows_all
    """Whether the head of a stream is in memory. If not, its link at seq 0 is looked up first."""
