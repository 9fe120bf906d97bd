"""The channel between an owner and a worker: one Unix socket, and all that they say to each other.

Each message is one MessagePack array whose first element is its tag. Questions have a number `n`, and each
gets one `Answer`, `Told` or `Failed` with it. Both sides are of one build: a worker is started by its
owner. Events travel field by field (`Columns`), which is faster to encode and to make than one by one.
Errors go from the owner to a worker by name, and only those that a caller treats specially.

`Pipe`: messages are written in order, together once per loop turn; a commit, and what waits before it, at
once. On the wire, a message is its length in four bytes, then its bytes. What waits to be sent is bounded:
a peer that does not read is given up at that bound, because its clients can continue with another worker.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Final, cast

import msgspec
import structlog

from huahuo.actors.actor.messages import AskTimeout, HandlerCancelled, InboxFull
from huahuo.actors.entities.decider import Busy, Degraded
from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.actors.plugins.words import Catalogue
from huahuo.eventstore.errors import Closed, Corrupt, QueueFull, TooLarge, Unavailable
from huahuo.eventstore.model import Head, Joined, Page, StoredEvent
from huahuo.transport.access.rights import AuthFailure, Verified
from huahuo.transport.load.fair_queueing import Crowded
from huahuo.transport.protocol.flow_control import TransportSettings

type Columns = tuple[
    list[int], list[str], list[int], list[str] | str, list[bytes], list[int] | int, list[int],
    list[str] | str, list[str] | str, list[str] | str, list[int] | int, list[str] | str, list[bytes],
]  # fmt: skip
"""Events, field by field in the order of `StoredEvent`: faster to encode and to make than one by one.
A single value in place of a list is that of all."""


def columns_of(events: Sequence[StoredEvent]) -> Columns:
    """Events as columns."""
    return (
        [e.position for e in events], [e.stream for e in events], [e.seq for e in events],
        _of_all([e.type for e in events]), [e.body for e in events], _of_all([e.version for e in events]),
        [e.ts_ms for e in events], _of_all([e.entity for e in events]),
        _of_all([e.principal for e in events]), _of_all([e.command_id for e in events]),
        _of_all([e.cause for e in events]), _of_all([e.build for e in events]), [e.chain for e in events],
    )  # fmt: skip


def events_of(columns: Columns) -> list[StoredEvent]:
    """The events of columns."""
    return list(map(StoredEvent, *(one if type(one) is list else repeat(one) for one in columns)))


def _of_all[T](values: list[T]) -> list[T] | T:
    """The one value, if all are equal. At the other end there is then one object in place of thousands."""
    first = values[0] if values else None
    return first if first is not None and values.count(first) == len(values) else values


class _Said(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """One message."""


# From the owner to a worker ---------------------------------------------------------------------------


class ActionFacts(msgspec.Struct, frozen=True, array_like=True):
    """What a session must know of a registered action."""

    action: str
    query: bool
    compressible: bool


class Hello(_Said, frozen=True, gc=True):
    """The first message: all that a worker needs to serve. `dictionary` is what it compresses with."""

    number: int
    settings: TransportSettings
    log_id: str
    position: int
    chain: bytes
    fingerprint_key: bytes
    dictionary: bytes
    language: str
    trusted_proxies: tuple[str, ...]
    tail_events_max: int
    tail_bytes_max: int
    actions: tuple[ActionFacts, ...]
    snapshots: tuple[str, ...]
    judges: tuple[str, ...]
    judges_others: bool
    right_types: tuple[str, ...]
    words: Catalogue
    has_tongues: bool
    shared_log: bool
    log_level: str
    log_json: bool


class Commit(_Said, frozen=True):
    """Newly durable events, in the order of the log."""

    events: Columns


class Pruned(_Said, frozen=True):
    """Events were pruned: the first seq of any stream may have changed."""


class Answer(_Said, frozen=True):
    """The answer to a question, whose type the asker knows."""

    n: int
    value: msgspec.Raw


class Told(_Said, frozen=True):
    """The answer to a call. None as `body`: the service stops and cut it short.

    `parted`: not 0 for a query whose real answer is made part by part (`Part`, `Piece`).
    """

    n: int
    body: bytes | None
    at: tuple[str, int] | None = None
    recorded: bool = False
    duplicate: bool = False
    parted: int = 0


class Failed(_Said, frozen=True):
    """A question has no answer. `kind` is the name of the error (`failures`)."""

    n: int
    kind: str
    text: str


class CloseIt(_Said, frozen=True):
    """Close a connection."""

    connection: int
    code: int
    reason: str


class Rejudge(_Said, frozen=True):
    """Judge again who may read a stream (None: any), of this user (None: all)."""

    stream: str | None
    user_id: UserId | None


class AskPositions(_Said, frozen=True):
    """Tell the position of each connection."""

    n: int


class AskMetrics(_Said, frozen=True):
    """Tell the metrics."""

    n: int


class Drain(_Said, frozen=True):
    """Close all connections, then end."""

    timeout_s: float


class Beat(_Said, frozen=True):
    """A sign of life, in both directions."""


# From a worker to the owner ---------------------------------------------------------------------------


class Ready(_Said, frozen=True):
    """The worker listens."""


class Enter(_Said, frozen=True):
    """A client of this address wants to connect. Answer: the value of an `Entry`."""

    n: int
    address: str


class Left(_Said, frozen=True):
    """A connection of this address is gone."""

    address: str


class Verify(_Said, frozen=True):
    """Judge a token."""

    n: int
    token: str

    def __repr__(self) -> str:
        return f"Verify({self.n}, '[hidden]')"


class AuthFailed(_Said, frozen=True):
    """A token was refused. Answer: for how long the client's answer is to be held back, in s."""

    n: int
    address: str


class Join(_Said, frozen=True):
    """A connection authenticated. Answer: whether its user may have one more."""

    n: int
    connection: int
    verified: Verified
    client: str


class Refreshed(_Said, frozen=True):
    """A connection has a new token."""

    connection: int
    verified: Verified


class Parted(_Said, frozen=True):
    """A connection that joined is gone, or about to be."""

    connection: int


class Acks(_Said, frozen=True):
    """Positions that clients processed: user, client, stream, seq."""

    acks: list[tuple[str, str, str, int]]


class Ask(_Said, frozen=True):
    """A command or query; `key`: its client and id, if it must have at most one effect."""

    n: int
    principal: Principal
    session: str
    action: str
    fields: dict[str, Any]
    command_id: str
    key: tuple[str, str] | None
    fingerprint: bytes

    def __repr__(self) -> str:
        return f"Ask({self.n}, {self.action})"


class Cancel(_Said, frozen=True):
    """The answer to this question is not wanted any more. Commands go on all the same."""

    n: int


class Judge(_Said, frozen=True):
    """May this user read this stream?"""

    n: int
    principal: Principal
    stream: str


class Links(_Said, frozen=True):
    """Read links of the chain. A seq of 0 asks for the head of a stream instead. Answer: `LinksFound`."""

    n: int
    places: list[tuple[str, int]]


class CatchUp(_Said, frozen=True):
    """Wait for places that may be ahead of this node only. Answer: whether that is settled."""

    n: int
    places: list[tuple[str, int]]


class Read(_Said, frozen=True):
    """Read events. Answer: `Columns`."""

    n: int
    page: Page


class ReadJoined(_Said, frozen=True):
    """Read pages. Answer: a list of `Joined` or None."""

    n: int
    pages: list[Page]


class Snapshot(_Said, frozen=True):
    """The state of a stream. Answer: `SnapshotTaken`."""

    n: int
    stream: str


class Part(_Said, frozen=True):
    """A part of an answer or state (`actors.plugins.calls.Parted`). Answer: text, where the next begins."""

    n: int
    parted: int
    start: int
    bytes_max: int


class Piece(_Said, frozen=True):
    """The next bytes of the whole. Answer: text, empty at the end."""

    n: int
    parted: int


class Release(_Said, frozen=True):
    """An answer or state in parts is not needed any more."""

    parted: int


class Given(_Said, frozen=True):
    """A socket that the owner must serve comes over the other Unix socket, under this number."""

    number: int
    data: bytes


class LinksFound(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Links`: the links in order, and the heads of the streams that were asked for."""

    links: list[bytes | None]
    heads: dict[str, Head]


class SnapshotTaken(msgspec.Struct, frozen=True, array_like=True):
    """The state after event `seq`; `parted` not 0: made part by part."""

    seq: int
    state: bytes
    parted: int = 0


type FromOwner = (
    Hello | Commit | Pruned | Answer | Told | Failed | CloseIt | Rejudge | AskPositions | AskMetrics | Drain
    | Cancel | Beat
)  # fmt: skip
type FromWorker = (
    Ready | Enter | Left | Verify | AuthFailed | Join | Refreshed | Parted | Acks | Ask | Cancel | Judge
    | Links | CatchUp | Read | ReadJoined | Snapshot | Part | Piece | Release | Given | Answer | Beat
)  # fmt: skip

FROM_OWNER: Final = msgspec.msgpack.Decoder(FromOwner.__value__)
FROM_WORKER: Final = msgspec.msgpack.Decoder(FromWorker.__value__)
encode: Final = msgspec.msgpack.Encoder().encode

type JoinedPages = list[Joined | None]
type TokenVerdict = Verified | AuthFailure


class Judged(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Verify`: one of the two."""

    verified: Verified | None
    failure: AuthFailure | None

    @property
    def verdict(self) -> TokenVerdict:
        """The verdict."""
        verdict = self.verified or self.failure
        assert verdict is not None, "the owner answers with one of the two"
        return verdict


WAITING_BYTES_MAX: Final = 64 << 20
"""What may wait to be sent to a peer."""
_MESSAGE_BYTES_MAX: Final = 512 << 20
_SENT_BYTES: Final = 1 << 20
"""What the kernel holds for a peer, as far as it allows: a large commit leaves in one piece."""
_LENGTH: Final = struct.Struct(">I")

_log = structlog.get_logger(__name__)


class Pipe(asyncio.Protocol):
    """One Unix socket between the owner and a worker: messages in order, written together once per loop turn.

    `take` gets each message; `lost` is called once, when the pipe is over.
    """

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[object],
        take: Callable[[object], None],
        lost: Callable[[], None],
    ) -> None:
        self._decode = decoder.decode
        self._take = take
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._came = bytearray()
        self._waiting: list[bytes] = []
        self._over = False

    async def open(self, sock: socket.socket) -> None:
        """Begin to read and write."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_BYTES)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=sock)

    @property
    def is_open(self) -> bool:
        """Whether the peer is there."""
        return not self._over

    @property
    def waiting_bytes(self) -> int:
        """What waits to be sent."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def send(self, message: object) -> None:
        """Send a message in this turn of the loop."""
        self.send_encoded(encode(message))

    def send_encoded(self, data: bytes) -> None:
        """As `send`, for a message that goes to several peers."""
        if self._over:
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting += (_LENGTH.pack(len(data)), data)

    def send_at_once(self, data: bytes) -> None:
        """As `send_encoded`, without waiting for those who have the loop before the turn's end."""
        self.send_encoded(data)
        self._flush()

    def close(self) -> None:
        """End it; what was sent is still written."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
        self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        came = self._came
        came += data
        at, end = 0, len(came)
        while end - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(came, at)
            if size > _MESSAGE_BYTES_MAX:
                self._fail("a message is too long")
                return
            if end - at - _LENGTH.size < size:
                break
            at += _LENGTH.size
            body = bytes(memoryview(came)[at : at + size])
            at += size
            if not self._handle(body):
                return
        if at:
            del came[:at]

    def connection_lost(self, _exc: Exception | None) -> None:
        """The peer is gone."""
        self._end()

    def _handle(self, body: bytes) -> bool:
        try:
            message = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._fail(str(error))
            return False
        try:
            self._take(message)
        except Exception:  # noqa: BLE001  one message's fault is not that of the others
            _log.exception("message_failed", message=type(message).__name__)
        return not self._over

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        transport = self._transport
        if transport is None or self._over or not waiting:
            return
        transport.write(b"".join(waiting))
        if transport.get_write_buffer_size() > WAITING_BYTES_MAX:
            self._fail("it reads too slowly")

    def _fail(self, why: str) -> None:
        _log.error("pipe_given_up", reason=why)
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._waiting.clear()
            self._lost()


_KINDS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        AskTimeout, Busy, Closed, Crowded, Degraded, HandlerCancelled, InboxFull, QueueFull, TimeoutError,
        TooLarge, Unavailable,
    )
}  # fmt: skip
_CORRUPT: Final = "Corrupt"
UNAVAILABLE: Final = Unavailable.__name__


class OwnerFailed(Exception):  # noqa: N818  a fact about the owner
    """The owner met a fault of its own, which is in its log."""


def error_named(error: BaseException) -> tuple[str, str]:
    """The kind of an error, and its text."""
    if isinstance(error, Corrupt):
        return _CORRUPT, f"{error.place}\n{error.reason}"
    for kind in type(error).__mro__:
        if kind.__name__ in _KINDS:
            return kind.__name__, str(error)
    return "", type(error).__name__


def error_raised(kind: str, text: str) -> Exception:
    """The error of this kind."""
    if kind == _CORRUPT:
        place, _, why = text.partition("\n")
        return Corrupt(place, why)
    found = _KINDS.get(kind, OwnerFailed)
    error = found.__new__(found)  # not by its `__init__`: some are made of facts, of which only the text came
    error.args = (text,)
    return error


_GONE = "the owner of this worker is gone"


class Questions:
    """The questions of a worker to its owner that have no answer yet.

    All methods belong to the loop's thread.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._asked = 0
        self._open: dict[int, tuple[asyncio.Future[Any], Callable[[msgspec.Raw], Any]]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def number(self) -> int:
        """The number of another question."""
        self._asked += 1
        return self._asked

    def ask[T](self, make: Callable[[int], object], answers: msgspec.msgpack.Decoder[T]) -> asyncio.Future[T]:
        """Send the question that `make` makes of its number. Cancel the future to give up the answer.

        The future raises an error of `failures`, or Unavailable if the owner is gone.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if not self._pipe.is_open:
            answer.set_exception(Unavailable(_GONE))
            return answer
        n = self.number()
        self._open[n] = answer, answers.decode
        self._pipe.send(make(n))
        answer.add_done_callback(lambda ended: self._ended(n, ended))
        return answer

    def say(self, message: object) -> None:
        """Send what has no answer."""
        self._pipe.send(message)

    def answered(self, answer: Answer) -> None:
        """An answer came."""
        future, decode = self._open.pop(answer.n, (None, None))
        if future is not None and decode is not None and not future.done():
            future.set_result(decode(answer.value))

    def failed(self, failed: Failed) -> None:
        """A question has none."""
        future, _ = self._open.pop(failed.n, (None, None))
        if future is not None and not future.done():
            future.set_exception(error_raised(failed.kind, failed.text))

    def give_up(self) -> None:
        """The owner is gone."""
        asked, self._open = self._open, {}
        for future, _ in asked.values():
            if not future.done():
                future.set_exception(Unavailable(_GONE))

    def _ended(self, n: int, answer: asyncio.Future[Any]) -> None:
        if answer.cancelled() and self._open.pop(n, None) is not None:
            self._pipe.send(Cancel(n))
