"""The channel between an owner and a worker: one Unix socket, and all that they call of each other.

Each side has a port, a class whose methods are what the other side calls: `OwnerPort` and `WorkerPort`. Of a
port's types the messages are made, so both sides are of one build: a worker is started by its owner. On the
wire, a message is the length of what follows in four bytes, which method it calls in one, the number of the
call in eight (0: no answer is wanted), then the arguments in MessagePack. Each call with a number gets one
answer or one error. Events travel field by field (`Columns`), which is faster to encode and to make than one
by one. Errors go by name, and only those that a caller treats specially.

`Channel`: messages are written in order, together once per loop turn; a commit, and what waits before it, at
once. What waits to be sent is bounded: a peer that does not read is given up at that bound, because its
clients can continue with another worker.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import repeat
from types import CoroutineType, NoneType
from typing import Any, Concatenate, Final, NamedTuple, Protocol, cast, get_type_hints

import msgspec
import structlog

from huahuo.actors.actor.messages import AskTimeout, HandlerCancelled, InboxFull
from huahuo.actors.entities.decider import Busy, Degraded
from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.actors.plugins.words import Catalogue
from huahuo.eventstore.errors import Closed, Corrupt, QueueFull, TooLarge, Unavailable
from huahuo.eventstore.model import Head, Joined, Page, RowRange, RowsAtOnce, StoredEvent
from huahuo.transport.access.rights import AuthFailure, Verified
from huahuo.transport.load.fair_queueing import Crowded
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server.views import Answered

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


class ActionFacts(msgspec.Struct, frozen=True, array_like=True):
    """What a session must know of a registered action."""

    action: str
    query: bool
    compressible: bool


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told of the settings. The limits in `settings` are those of one worker."""

    settings: TransportSettings
    dictionary: bytes
    """What it compresses with."""
    language: str
    trusted_proxies: tuple[str, ...]
    tail_events_max: int
    tail_bytes_max: int
    log_level: str
    log_json: bool


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker must know of the service before it serves."""

    number: int
    manners: Manners
    log_id: str
    position: int
    chain: bytes
    fingerprint_key: bytes
    actions: tuple[ActionFacts, ...]
    snapshots: tuple[str, ...]
    judges: tuple[str, ...]
    judges_others: bool
    right_types: tuple[str, ...]
    words: Catalogue
    has_tongues: bool
    shared_log: bool


class Command(msgspec.Struct, frozen=True, array_like=True):
    """A command or query; `key`: its client and id, if it must have at most one effect."""

    principal: Principal
    session: str
    action: str
    fields: dict[str, Any]
    command_id: str
    key: tuple[str, str] | None
    fingerprint: bytes


class Told(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a command. None as `body`: the service stops and cut it short.

    `parted`: not 0 for a query whose real answer is made part by part (`OwnerPort.part`, `piece`).
    """

    body: bytes | None
    at: tuple[str, int] | None = None
    recorded: bool = False
    duplicate: bool = False
    parted: int = 0
    position: int = 0


class LinksFound(msgspec.Struct, frozen=True, array_like=True):
    """Links in the order asked for, and the heads of the streams that were asked for."""

    links: list[bytes | None]
    heads: dict[str, Head]


class SnapshotTaken(msgspec.Struct, frozen=True, array_like=True):
    """The state after event `seq`; `parted` not 0: made part by part."""

    seq: int
    state: bytes
    parted: int = 0


class Judged(msgspec.Struct, frozen=True, array_like=True):
    """The verdict about a token: one of the two."""

    verified: Verified | None
    failure: AuthFailure | None


type Positions = dict[int, dict[str, int]]
type Soon[T] = T | Awaitable[T]
"""What a method answers, at once or later. A method that returns None has no answer."""


class WorkerPort(Protocol):
    """What an owner calls of a worker."""

    def hello(self, hello: Hello) -> None:
        """The first call: begin to serve."""

    def commit(self, events: Columns) -> None:
        """Newly durable events, in the order of the log."""

    def rows_changed(self, parts: list[tuple[str, str]] | None) -> None:
        """Rows of these parts of tracked tables changed (None: of any)."""

    def present(self, source: str, stream: str, put: dict[str, bytes], drop: list[str]) -> None:
        """The presence of a stream changed elsewhere."""

    def pruned(self) -> None:
        """Events were pruned: the first seq of any stream may have changed."""

    def close_it(self, connection: int, code: int, reason: str) -> None:
        """Close a connection."""

    def rejudge(self, stream: str | None, user_id: UserId | None) -> None:
        """Judge again who may read a stream (None: any), of this user (None: all)."""

    def positions(self) -> Soon[Positions]:
        """The last seq sent of each stream, by connection."""

    def samples(self) -> Soon[bytes]:
        """The metrics of this process."""

    def end(self, timeout_s: float) -> None:
        """Close all connections, then end."""


class OwnerPort(Protocol):
    """What a worker calls of its owner."""

    def ready(self) -> None:
        """The worker listens."""

    def beat(self) -> None:
        """A sign of life."""

    def enter(self, address: str) -> Soon[str]:
        """A client of this address wants to connect: the value of an `Entry`."""

    def left(self, address: str) -> None:
        """A connection of this address is gone."""

    def verify(self, token: str) -> Soon[Judged]:
        """Judge a token."""

    def auth_failed(self, address: str) -> Soon[float]:
        """A token was refused: for how long the client's answer is to be held back, in s."""

    def join(self, connection: int, verified: Verified, client: str) -> Soon[bool]:
        """A connection authenticated: whether its user may have one more."""

    def refreshed(self, connection: int, verified: Verified) -> None:
        """A connection has a new token."""

    def parted(self, connection: int) -> None:
        """A connection that joined is gone, or about to be."""

    def acks(self, acks: list[tuple[str, str, str, int]]) -> None:
        """Positions that clients processed: user, client, stream, seq."""

    def execute(self, command: Command) -> Soon[Told]:
        """Execute a command or query. Of what is cancelled, only a query ends."""

    def judge(self, principal: Principal, stream: str) -> Soon[bool | None]:
        """May this user read this stream?"""

    def links(self, places: list[tuple[str, int]]) -> Soon[LinksFound]:
        """Links of the chain. A seq of 0 asks for the head of a stream instead."""

    def catch_up(self, places: list[tuple[str, int]]) -> Soon[bool]:
        """Wait for places that may be ahead of this node only: whether that is settled."""

    def read(self, page: Page) -> Soon[Columns]:
        """Read events."""

    def read_joined(self, pages: list[Page]) -> Soon[list[Joined | None]]:
        """Read pages."""

    def ask_list(
        self, principal: Principal, name: str, given: dict[str, Any], as_text: bool
    ) -> Soon[Answered]:
        """Which rows of a live list may this user have?"""

    def rows_at_once(self, ranges: list[RowRange]) -> Soon[RowsAtOnce]:
        """Read rows at one commit."""

    def present(self, stream: str, put: dict[str, bytes], drop: list[str]) -> None:
        """The presence of a stream changed here."""

    def presence(self, stream: str) -> Soon[dict[str, dict[str, bytes]]]:
        """Who else is in the presence of a stream, by source?"""

    def snapshot(self, stream: str) -> Soon[SnapshotTaken]:
        """The state of a stream."""

    def view(self, stream: str) -> Soon[SnapshotTaken]:
        """The state of a stream as its followers see it."""

    def part(self, parted: int, start: int, bytes_max: int) -> Soon[tuple[bytes, int | None]]:
        """A part of an answer or state (`actors.plugins.calls.Parted`): text, where the next begins."""

    def piece(self, parted: int) -> Soon[bytes]:
        """The next bytes of the whole, empty at the end."""

    def release(self, parted: int) -> None:
        """An answer or state in parts is not needed any more."""


class _Method(NamedTuple):
    number: int
    decode: Callable[[bytes], tuple[Any, ...]]
    """Its arguments."""
    decode_answer: Callable[[bytes], Any] | None


_ANSWER, _FAILED, _CANCEL, _FIRST = range(4)
"""What a message is that calls no method, and the number of a port's first one."""


def _methods_of(port: type) -> dict[str, _Method]:
    methods: dict[str, _Method] = {}
    for name, function in vars(port).items():
        if not name.startswith("_"):
            hints = get_type_hints(function)
            answer = hints.pop("return")
            methods[name] = _Method(
                _FIRST + len(methods),
                msgspec.msgpack.Decoder(tuple[*hints.values()]).decode,  # type: ignore[misc]
                None if answer is NoneType else msgspec.msgpack.Decoder(answer.__args__[0]).decode,
            )
    return methods


_METHODS: Final = {port: _methods_of(port) for port in (OwnerPort, WorkerPort)}
_BY_FUNCTION: Final = {
    getattr(port, name): method for port, methods in _METHODS.items() for name, method in methods.items()
}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_failure: Final = msgspec.msgpack.Decoder(tuple[str, str]).decode
_LENGTH: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">IBQ")
_HEAD_BYTES: Final = _HEAD.size - _LENGTH.size


def message[**P](method: Callable[Concatenate[Any, P], None], *args: P.args, **_: P.kwargs) -> bytes:
    """The message that calls `method`, which has no answer."""
    return _message(_BY_FUNCTION[method].number, 0, args)


def _message(kind: int, n: int, content: object) -> bytes:
    data = _encode(content)
    return _HEAD.pack(len(data) + _HEAD_BYTES, kind, n) + data


WAITING_BYTES_MAX: Final = 64 << 20
"""What may wait to be sent to a peer."""
_MESSAGE_BYTES_MAX: Final = 512 << 20
_SENT_BYTES: Final = 1 << 20
"""What the kernel holds for a peer, as far as it allows: a large commit leaves in one piece."""
_GONE: Final = "the owner of this worker is gone"
LATER: Final[Any] = object()
"""What a method returns that answers the call `Channel.asked` by `Channel.answer` or `start`."""

_log = structlog.get_logger(__name__)


class Channel(asyncio.Protocol):
    """One end: it calls the other one's methods, and `serves` answers the calls of its `port`.

    `lost` is called once, when the channel is over.
    """

    def __init__(
        self, port: type[Any], serves: object, *, lost: Callable[[], None], now_s: Callable[[], float]
    ) -> None:
        self._serves = [(getattr(serves, name), one.decode) for name, one in _METHODS[port].items()]
        self._lost = lost
        self._now_s = now_s
        self._transport: asyncio.Transport | None = None
        self._came = bytearray()
        self._waiting: list[bytes] = []
        self._over = False
        self._calls = 0
        self._open: dict[int, tuple[Callable[[Any], object], Callable[[bytes], Any]]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.asked = 0
        """The number of the call that is handled now."""
        self.heard_s = now_s()
        """When the peer was heard last."""

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

    def say[**P](self, method: Callable[Concatenate[Any, P], None], *args: P.args, **_: P.kwargs) -> None:
        """Call a method that has no answer, in this turn of the loop."""
        self.send(_message(_BY_FUNCTION[method].number, 0, args))

    def send(self, encoded: bytes) -> None:
        """As `say`, for what `message` made."""
        if self._over:
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(encoded)

    def send_at_once(self, encoded: bytes) -> None:
        """As `send`, without waiting for those who have the loop before the turn's end."""
        self.send(encoded)
        self._flush()

    def call[**P](
        self,
        hear: Callable[[Any], object],
        method: Callable[Concatenate[Any, P], object],
        *args: P.args,
        **_: P.kwargs,
    ) -> int:
        """Call a method; `hear` gets its answer, or the error. Returns the number of the call."""
        if self._over:
            hear(Unavailable(_GONE))
            return 0
        called = _BY_FUNCTION[method]
        assert called.decode_answer is not None, "it has an answer"
        self._calls += 1
        self._open[self._calls] = hear, called.decode_answer
        self.send(_message(called.number, self._calls, args))
        return self._calls

    def ask[**P, T](
        self, method: Callable[Concatenate[Any, P], Soon[T]], *args: P.args, **named: P.kwargs
    ) -> asyncio.Future[T]:
        """Call a method. Cancel the future to give up the answer.

        The future raises an error as `error_raised` makes it, Unavailable if the peer is gone.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def hear(found: Any) -> None:
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        n = self.call(hear, method, *args, **named)
        answer.add_done_callback(lambda ended: self._ended(n, ended))
        return answer

    def answer(self, n: int, value: object) -> None:
        """Answer a call whose method returned `LATER`."""
        try:
            self.send(_message(_ANSWER, n, value))
        except Exception:  # noqa: BLE001  a reply of a plug-in that is none
            _log.exception("reply_failed")
            self.send(_message(_FAILED, n, ("", "the reply cannot be sent")))

    def start(self, n: int, work: Coroutine[Any, Any, object]) -> None:
        """Answer a call by what `work` returns or raises. It ends with the call, or with the channel."""
        if self._over:
            work.close()
            return
        task = self._tasks[n] = asyncio.get_running_loop().create_task(self._answered(n, work))
        task.add_done_callback(lambda _ended: self._tasks.pop(n, None))

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
        self.heard_s = self._now_s()
        came = self._came
        came += data
        at, end = 0, len(came)
        while end - at >= _HEAD.size:
            size, kind, n = _HEAD.unpack_from(came, at)
            if not _HEAD_BYTES <= size <= _MESSAGE_BYTES_MAX:
                self._fail("a message has an impossible length")
                return
            if end - at - _LENGTH.size < size:
                break
            body = bytes(memoryview(came)[at + _HEAD.size : at + _LENGTH.size + size])
            at += _LENGTH.size + size
            try:
                self._take(kind, n, body)
            except (msgspec.MsgspecError, UnicodeDecodeError, IndexError) as error:
                self._fail(str(error))
            if self._over:
                return
        if at:
            del came[:at]

    def connection_lost(self, _exc: Exception | None) -> None:
        """The peer is gone."""
        self._end()

    def _take(self, kind: int, n: int, body: bytes) -> None:
        """One message. Raises as msgspec, and IndexError: it is none."""
        is_call = kind >= _FIRST
        handle: Callable[..., object]
        if is_call:
            handle, decode = self._serves[kind - _FIRST]
            args = decode(body)
        elif kind == _CANCEL:
            task = self._tasks.get(n)
            if task is not None:
                task.cancel()
            return
        elif (asked := self._open.pop(n, None)) is None:
            return
        else:
            handle, decode_answer = asked
            args = (error_raised(*_decode_failure(body)) if kind == _FAILED else decode_answer(body),)
        self.asked = n
        try:
            value = handle(*args)
        except Exception as error:  # noqa: BLE001  one message's fault is not that of the others
            self._refuse(n if is_call else 0, error)
            return
        if isinstance(value, CoroutineType):
            self.start(n, value)
        elif is_call and n and value is not LATER:
            self.answer(n, value)

    async def _answered(self, n: int, work: Coroutine[Any, Any, object]) -> None:
        try:
            value = await work
        except Exception as error:  # noqa: BLE001  it goes to the peer
            self._refuse(n, error)
        else:
            self.answer(n, value)

    def _refuse(self, n: int, error: Exception) -> None:
        """A call failed. `n` 0: nobody waits for an answer."""
        kind, text = error_named(error)
        if not (kind and n):
            _log.error("message_failed", exc_info=error)
        if n:
            self.send(_message(_FAILED, n, (kind, text)))

    def _ended(self, n: int, answer: asyncio.Future[Any]) -> None:
        if answer.cancelled() and self._open.pop(n, None) is not None:
            self.send(_message(_CANCEL, n, None))

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
        if self._over:
            return
        self._over = True
        self._waiting.clear()
        asked, self._open = self._open, {}
        for hear, _ in asked.values():
            hear(Unavailable(_GONE))
        for task in tuple(self._tasks.values()):
            task.cancel()
        self._lost()


_KINDS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        AskTimeout, Busy, Closed, Crowded, Degraded, HandlerCancelled, InboxFull, QueueFull, TimeoutError,
        TooLarge, Unavailable,
    )
}  # fmt: skip
_CORRUPT: Final = "Corrupt"


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
