"""Events as complete WebSocket frames, built once and shared by every connection. Pure.

The stored JSON bytes are joined, never decoded or encoded again. A frame is a server's: FIN set,
not masked, so it may be written to a transport as it is (RFC 6455, 5.2).
"""

import struct
from collections.abc import Sequence

import msgspec

from eventstore.model import LOG_STREAM, StoredEvent

_TEXT = 0x81  # FIN and opcode 1
_LEN_16 = 126
_LEN_64 = 127

PING = b"\x89\x00"
"""A ping without payload."""


def text_frame(payload: bytes) -> bytes:
    """`payload` (UTF-8) as one text frame."""
    size = len(payload)
    if size < _LEN_16:
        return bytes((_TEXT, size)) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", _TEXT, _LEN_16, size) + payload
    return struct.pack("!BBQ", _TEXT, _LEN_64, size) + payload


def spliced(body: bytes, tail: bytes) -> bytes:
    """The JSON object `body` (never empty) with the members of `tail` (`"a":1,"b":2`) at its end."""
    return b"%b,%b}" % (body[:-1], tail)


class Framed(msgspec.Struct, frozen=True, gc=False):
    """The bytes to write for the first `count` events of a run."""

    data: bytes
    count: int


class FrameCache:
    """Frames of runs by (stream, first seq, events asked for, batched), the oldest dropped first.

    Everybody who stands at the same place gets the same bytes object, whether live or resuming.
    """

    def __init__(self, *, bytes_max: int, frame_bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._frame_bytes_max = frame_bytes_max
        self._frames: dict[tuple[str, int, int, bool], Framed] = {}
        self.bytes = 0
        self.built = 0
        """Frames built so far; what was asked for beyond that was shared."""

    def run(self, stream: str, first: int, events: Sequence[StoredEvent], *, batch: bool) -> Framed:
        """The frame of `events` (at least one), which begin at `first` of `stream`.

        `batch`: one `events` message of at most the first events that fit into the frame limit (one
        alone may exceed it). Otherwise each event is a message of its own, all in one piece of bytes.
        """
        key = (stream, first, len(events), batch)
        framed = self._frames.get(key)
        if framed is None:
            if batch:
                framed = _batched(stream, first, events, self._frame_bytes_max)
            else:
                framed = _singly(stream, first, events)
            self.built += 1
            self._keep(key, framed)
        return framed

    def _keep(self, key: tuple[str, int, int, bool], framed: Framed) -> None:
        self._frames[key] = framed
        self.bytes += len(framed.data)
        while self.bytes > self._bytes_max:
            oldest = next(iter(self._frames))
            self.bytes -= len(self._frames.pop(oldest).data)


def _batched(stream: str, first: int, events: Sequence[StoredEvent], bytes_max: int) -> Framed:
    head = b'{"type":"events","stream":%b,"seq":%d,"events":[' % (msgspec.json.encode(stream), first)
    size = len(head) + len(b"]}")
    bodies: list[bytes] = []
    for event in events:
        body = _placed(event) if stream == LOG_STREAM else event.body
        size += len(body) + len(b",")
        if bodies and size - len(b",") > bytes_max:
            break
        bodies.append(body)
    return Framed(text_frame(b"%b%b]}" % (head, b",".join(bodies))), len(bodies))


def _singly(stream: str, first: int, events: Sequence[StoredEvent]) -> Framed:
    name = msgspec.json.encode(stream)
    frames: list[bytes] = []
    for seq, event in enumerate(events, first):
        body = _placed(event) if stream == LOG_STREAM else event.body
        frames.append(text_frame(spliced(body, b'"stream":%b,"seq":%d' % (name, seq))))
    return Framed(b"".join(frames), len(frames))


def _placed(event: StoredEvent) -> bytes:
    """On `log`: the event with its place in its own stream."""
    name = msgspec.json.encode(event.stream)
    return spliced(event.body, b'"in":{"stream":%b,"seq":%d}' % (name, event.seq))
