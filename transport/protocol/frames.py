"""Events as WebSocket frames and as server-sent events, built once and shared by every connection. Pure.

The stored JSON bytes are joined, never decoded or encoded again. Frames are a server's (FIN set, not
masked), so they can be written to a transport unchanged (RFC 6455, 5.2).

Server-sent events (WHATWG HTML, 9.2): an event of the stream is an unnamed event, which
`EventSource.onmessage` gets. Its id is `<log>:<seq>`, which the reader sends back as `Last-Event-ID`. What
the service says about the stream is a named event.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, Final, Protocol

import msgspec

from huahuo.eventstore.model import LOG_STREAM, Joined, StoredEvent

TEXT = 0x81
"""The first byte of a text frame: FIN and opcode 1."""
BINARY = 0x82
"""The first byte of a binary frame: FIN and opcode 2."""
_LEN_16 = 126
_LEN_64 = 127

_HEAD_16 = Struct("!BBH")
_HEAD_64 = Struct("!BBQ")
_PREFIXES_MAX = 1 << 16

PING = b"\x89\x00"
"""A ping without payload."""


def text_frame(payload: bytes) -> bytes:
    """`payload` (UTF-8) as one text frame."""
    size = len(payload)
    if size < _LEN_16:
        return b"\x81%c%b" % (size, payload)
    if size < 1 << 16:
        return _HEAD_16.pack(TEXT, _LEN_16, size) + payload
    return _HEAD_64.pack(TEXT, _LEN_64, size) + payload


def binary_frame(payload: bytes) -> bytes:
    """`payload` as one binary frame."""
    return _frame(BINARY, payload)


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < _LEN_16:
        return bytes((kind, size)) + payload
    if size < 1 << 16:
        return _HEAD_16.pack(kind, _LEN_16, size) + payload
    return _HEAD_64.pack(kind, _LEN_64, size) + payload


def unframed(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The first byte and the payload of each of these complete frames, as this module makes them."""
    at = 0
    while at < len(data):
        kind, size = data[at], data[at + 1]
        at += 2
        if size == _LEN_16:
            size, at = int.from_bytes(data[at : at + 2]), at + 2
        elif size == _LEN_64:
            size, at = int.from_bytes(data[at : at + 8]), at + 8
        yield kind, data[at : at + size]
        at += size


def events_message(stream: str, first: int, bodies: Sequence[bytes]) -> bytes:
    """An `events` message with these bodies; the first event is number `first` of `stream`."""
    return _joined_message(stream, first, b",".join(bodies))


def _joined_message(stream: str, first: int, bodies: bytes) -> bytes:
    return b'%b%d,"events":[%b]}' % (_events_prefix(stream), first, bodies)


@lru_cache(maxsize=_PREFIXES_MAX)
def _events_prefix(stream: str) -> bytes:
    return b'{"type":"events","stream":%b,"seq":' % msgspec.json.encode(stream)


_EVENTS_BYTES = len(b'9007199254740991,"events":[]}')
"""An `events` message has at most this many bytes besides its prefix and its events."""


def spliced(body: bytes, tail: bytes) -> bytes:
    """The non-empty JSON object `body` with the members `tail` (`"a":1,"b":2`) added at its end."""
    return b"%b,%b}" % (body[:-1], tail)


_SINGLE, _TEXT_RUN = "single", "run"
type _Key = tuple[str, int, int, str]


class Framed(msgspec.Struct, frozen=True, gc=False):
    """The bytes to write for the first `count` events of a run."""

    data: bytes
    count: int


class Framer(Protocol):
    """Makes other frames than text frames (`huahuo.transport.protocol.dialects`)."""

    @property
    def name(self) -> str:
        """Frames of equal names are interchangeable."""
        ...

    def frame(self, payload: bytes) -> bytes:
        """`payload` as a complete frame."""
        ...


class EventTexts(Protocol):
    """Makes the text of single events for another protocol (`huahuo.transport.protocol.frames`)."""

    @property
    def name(self) -> str:
        """As `Framer.name`."""
        ...

    def text(self, seq: int, event: bytes) -> bytes:
        """The text of one event. `event` is its JSON object with `stream` and `seq`."""
        ...


def kind_of(*, batch: bool, framer: Framer | EventTexts | None) -> str:
    """The kind of a frame. Frames of the same run and kind are interchangeable."""
    if framer is None:
        return _TEXT_RUN if batch else _SINGLE
    return framer.name


ENTRY_BYTES = 320
"""The memory of a cache entry besides its frame, in bytes. It exceeds the frame of a single event."""


class FrameCache:
    """Frames of runs by (stream, first seq, events asked for, kind of frame), the oldest dropped first.

    All subscribers at the same position get the same bytes object, whether live or resuming.
    """

    def __init__(self, *, bytes_max: int, frame_bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._frame_bytes_max = frame_bytes_max
        # An OrderedDict: finding the first key of a dict skips all keys that were removed before it.
        self._frames: OrderedDict[_Key, Framed] = OrderedDict()
        self.bytes = 0
        self.built = 0
        """Frames built so far. All other requests shared one of them."""

    def clear(self) -> None:
        """Keep none of the frames: they are made again when somebody asks for them."""
        self._frames.clear()
        self.bytes = 0

    def __len__(self) -> int:
        """How many frames it keeps."""
        return len(self._frames)

    def run(
        self,
        stream: str,
        first: int,
        events: Sequence[StoredEvent],
        *,
        batch: bool,
        framer: Framer | EventTexts | None = None,
    ) -> Framed:
        """The frame of `events` (at least one); the first is number `first` of `stream`.

        `batch`: one `events` message with the first events that fit into the frame limit, made into a frame
        by `framer`. A single event may exceed the limit. Otherwise each event is a text message of its own,
        and all are in one bytes object; with `EventTexts`, all their texts are one binary message.
        """
        if stream == LOG_STREAM and batch:
            framer = None  # many users' text in one message: its length must not reveal it
        key = (stream, first, len(events), kind_of(batch=batch, framer=framer))
        framed = self._frames.get(key)
        if framed is None:
            framed = self.unshared(stream, first, events, batch=batch, framer=framer)
            self._keep(key, framed)
        return framed

    def unshared(
        self,
        stream: str,
        first: int,
        events: Sequence[StoredEvent],
        *,
        batch: bool,
        framer: Framer | EventTexts | None = None,
    ) -> Framed:
        """As `run`, but not kept in the cache: for a frame with only one receiver."""
        self.built += 1
        how: Any = framer  # `EventTexts` for single events, `Framer` for batches
        if not batch:
            return _singly(stream, first, events, how)
        frame = text_frame if how is None or stream == LOG_STREAM else how.frame
        return _batched(stream, first, events, self._frame_bytes_max, frame)

    def joined(self, stream: str, joined: Joined, *, framer: Framer | None = None) -> Framed | None:
        """As `run` with `batch`, for bodies that are joined already. `stream` is not `log`.

        None: the bodies exceed the frame limit, and joined bodies cannot be cut.
        """
        key = (stream, joined.first, joined.count, kind_of(batch=True, framer=framer))
        framed = self._frames.get(key)
        if framed is None:
            message = _joined_message(stream, joined.first, joined.bodies)
            if len(message) > self._frame_bytes_max and joined.count > 1:
                return None
            framed = Framed(text_frame(message) if framer is None else framer.frame(message), joined.count)
            self.built += 1
            self._keep(key, framed)
        return framed

    def _keep(self, key: _Key, framed: Framed) -> None:
        self._frames[key] = framed
        self.bytes += len(framed.data) + ENTRY_BYTES
        while self.bytes > self._bytes_max:
            _, oldest = self._frames.popitem(last=False)
            self.bytes -= len(oldest.data) + ENTRY_BYTES


def _batched(
    stream: str,
    first: int,
    events: Sequence[StoredEvent],
    bytes_max: int,
    frame: Callable[[bytes], bytes],
) -> Framed:
    if len(events) == 1 and stream != LOG_STREAM:
        return Framed(frame(_joined_message(stream, first, events[0].body)), 1)
    size = len(_events_prefix(stream)) + _EVENTS_BYTES
    bodies: list[bytes] = [] if stream == LOG_STREAM else [event.body for event in events]
    if bodies and size + sum(map(len, bodies)) + len(bodies) <= bytes_max:
        return Framed(frame(events_message(stream, first, bodies)), len(bodies))
    bodies.clear()
    for event in events:
        body = _placed(event) if stream == LOG_STREAM else event.body
        size += len(body) + len(b",")
        if bodies and size - len(b",") > bytes_max:
            break
        bodies.append(body)
    return Framed(frame(events_message(stream, first, bodies)), len(bodies))


def _singly(stream: str, first: int, events: Sequence[StoredEvent], texts: EventTexts | None) -> Framed:
    whole = enumerate(whole_events(stream, first, events), first)
    if texts is not None:
        return Framed(binary_frame(b"".join([texts.text(seq, event) for seq, event in whole])), len(events))
    return Framed(b"".join([text_frame(event) for _, event in whole]), len(events))


def whole_events(stream: str, first: int, events: Sequence[StoredEvent]) -> Iterator[bytes]:
    """Each event as a JSON object with its `stream` and `seq`."""
    name = msgspec.json.encode(stream)
    for seq, event in enumerate(events, first):
        body = _placed(event) if stream == LOG_STREAM else event.body
        yield spliced(body, b'"stream":%b,"seq":%d' % (name, seq))


def _placed(event: StoredEvent) -> bytes:
    """An event on `log`, with its place in its own stream."""
    name = msgspec.json.encode(event.stream)
    return spliced(event.body, b'"in":{"stream":%b,"seq":%d}' % (name, event.seq))


HEARTBEAT: Final = b":\n\n"
"""A comment. It keeps proxies from closing the connection."""
RETRY_MS: Final = 2000
"""A browser comes back after this. `goaway` says how long to wait after a particular end."""


class ServerSent:
    """The texts of one log's events. Implements `frames.EventTexts`."""

    __slots__ = ("_prefix", "name")

    def __init__(self, log_id: str) -> None:
        self.name = "sse"
        self._prefix = b"id: %b:" % log_id.encode()

    def text(self, seq: int, event: bytes) -> bytes:
        """See `frames.EventTexts`. JSON has no line break outside of its texts, where it is escaped."""
        return b"%b%d\ndata: %b\n\n" % (self._prefix, seq, event)

    def place(self, seq: int) -> bytes:
        """Lets the reader know where it stands, without an event."""
        return b"%b%d\n\n" % (self._prefix, seq)

    def named(self, name: str, message: bytes, seq: int | None = None) -> bytes:
        """A message of the service; `seq`: the reader's place after it."""
        place = b"" if seq is None else b"%b%d\n" % (self._prefix, seq)
        return b"%bevent: %b\ndata: %b\n\n" % (place, name.encode(), message)


def event(name: str, message: bytes, id_: bytes = b"") -> bytes:
    """A message of the service as an event of this name; `id_`: the reader's place after it."""
    place = b"id: %b\n" % id_ if id_ else b""
    return b"%bevent: %b\ndata: %b\n\n" % (place, name.encode(), message)


def retry(seconds: float) -> bytes:
    """How long the reader should wait before it comes back."""
    return b"retry: %d\n\n" % round(seconds * 1000)
