"""The outputs of a session: instructions to its shell. And `Now`, the time of an input. Pure values.

`bytes` in a list of outputs are complete WebSocket frames to write. Outputs are carried out in order.
"""

from typing import Any, NamedTuple

import msgspec

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Reply
from huahuo.actors.plugins.principal import Principal
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.place import Outcome
from huahuo.transport.session.subscription import Subscription


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
    bytes | Verify | LookUp | Execute | Record | TakeSnapshot | Watch | Unwatch | Acked | Alarm | Close
)
